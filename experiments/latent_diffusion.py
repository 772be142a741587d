"""Heads that learn from generated features beside heads that cost nothing, on published networks' features: one page.

    python experiments/latent_diffusion.py --data DIR

`DIR` is that of golden.py. Nothing but heads and generators is trained, by the product's own code, and nothing is
chosen on test rows. What is to be concluded was written down before the first result: docs/decisions. Each run is kept
below `--work` as soon as it is done, so that a stopped experiment goes on.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import latent_diffusion_page
import numpy as np
import torch
from experiment_command import run
from golden import FILES, Golden, read
from torch import Tensor, nn

from imbnas import page_record
from imbnas.data.order import InstanceSampler, Sampler
from imbnas.files import write_bytes
from imbnas.longtail.heads import NearestClassMean, linear_head, posthoc_adjustment, tau_normalise
from imbnas.longtail.losses import build_loss
from imbnas.longtail.samplers import ClassAwareSampler
from imbnas.params.recipe import OptimizerParams, RecipeParams
from imbnas.params.retrain import SecondStageParams
from imbnas.params.shared import Numerics
from imbnas.params.synthesis_options import DiffusionParams, SynthesisParams
from imbnas.progress import Log
from imbnas.seeds import derive
from imbnas.steps.retrain_generated import Enlarged, Real, generate
from imbnas.training.definition import Training
from imbnas.training.frozen import FeatureStore
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

SEEDS = 5
STEPS, BATCH = 2000, 256
"""Optimiser steps of every trained head, however many rows it sees, and rows of a step."""
DIFFUSION = DiffusionParams(epochs=50, timesteps=50, width=2, lr=2e-3)
FREE = ("none", "NCM", "tau-norm", "logit adjustment")
"""Heads without a training, and so without seeds."""
GENERATED = tuple(
    f"{name}, {profile}" for name in ("gaussian", "mixup", "latent-diffusion") for profile in ("published", "balanced")
)
SHIFTED = "latent-diffusion, published, adjusted"
METHODS = (*FREE, "cRT", "balanced softmax", "real rows only", *GENERATED, SHIFTED)


@dataclass
class Bench:
    """A dataset's features, and where trainings run."""

    data: Golden
    runtime: Runtime
    work: Path
    denoisers: dict[int, tuple[dict[str, Tensor], float]] = field(default_factory=dict)
    """Weights and processor seconds of the denoiser of a seed: both profiles draw from one."""

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return len(self.data.counts)

    def fit(self, training: Training) -> None:
        """Train a model in place."""
        state = ResumeState(self.work / "state", training.name, float("inf"))
        state.path.unlink(missing_ok=True)
        Trainer(training, self.runtime, state, Log("latent-diffusion", silent=True)).fit()
        state.path.unlink(missing_ok=True)

    def denoise(self, seed: int) -> Callable[[Training], None]:
        """Return what trains a denoiser, or gives it the weights that it had under another profile."""

        def train(training: Training) -> None:
            if seed not in self.denoisers:
                begin = time.process_time()
                self.fit(training)
                self.denoisers[seed] = copy.deepcopy(training.model.state_dict()), time.process_time() - begin
            training.model.load_state_dict(self.denoisers[seed][0])

        return train

    def head(
        self,
        head: nn.Module,
        store: FeatureStore,
        sampler: Sampler,
        seed: int,
        loss: str = "ce",
        mix: Any = None,
    ) -> nn.Module:
        """Return a head after STEPS optimiser steps, as near as whole epochs come."""
        rows = len(sampler.epoch(0))
        plain = OptimizerParams(weight_decay=0.0)
        built = build_loss(loss, self.data.counts.tolist())
        epochs = max(1, round(STEPS / -(-rows // BATCH)))
        recipe = RecipeParams(epochs=epochs, batch_size=BATCH, optimizer=plain)
        name, same = "head", lambda x, _: x
        self.fit(Training(name, head, recipe, store, same, sampler, lambda epoch: built, seed, mix=mix))
        return head.eval()

    def new_head(self, seed: int) -> nn.Module:
        """Return an untrained linear head."""
        torch.manual_seed(derive(seed, "latent-diffusion", "head"))
        return linear_head(self.data.train.shape[1], self.classes)

    def enlarged(self, method: str, seed: int) -> nn.Module:
        """Return the published head after its training on real and generated features."""
        name, profile, *_ = method.split(", ")
        data = self.data
        synthesis = SynthesisParams(profile=profile, diffusion=DIFFUSION)
        params = SecondStageParams(name=name, epochs=1, synthesis=synthesis)
        real = Real(data.train, data.labels, 1)
        made, _ = generate(params, real, data.counts.tolist(), seed, self.denoise(seed))
        every = Enlarged(real, made, self.classes, derive(seed, "latent-diffusion", "rows"))
        head = copy.deepcopy(data.head).requires_grad_(True)
        return self.head(head, every.store, every, seed, mix=every.decode if every.paired else None)

    def logits(self, method: str, seed: int) -> Tensor:
        """Return the scores of the test rows."""
        data = self.data
        free: dict[str, Callable[[], Tensor]] = {
            "none": lambda: data.head(data.test),
            "NCM": lambda: NearestClassMean.fit(data.train, data.labels, self.classes)(data.test),
            "tau-norm": lambda: tau_normalise(data.head, 1.0)(data.test),
            "logit adjustment": lambda: posthoc_adjustment(data.head(data.test), data.counts),
        }
        if method in free:
            return free[method]()
        if method in GENERATED:
            return self.enlarged(method, seed)(data.test)
        if method == SHIFTED:
            return posthoc_adjustment(self.enlarged(method, seed)(data.test), data.counts)
        store, labels, rows = FeatureStore(data.train, data.labels), data.labels.numpy(), derive(seed, "rows")
        instance = InstanceSampler(labels, rows)
        if method == "cRT":
            aware = ClassAwareSampler(labels, rows, length="natural")
            return self.head(self.new_head(seed), store, aware, seed)(data.test)
        if method == "balanced softmax":
            return self.head(self.new_head(seed), store, instance, seed, "balanced-softmax")(data.test)
        head = copy.deepcopy(data.head).requires_grad_(True)
        return self.head(head, store, instance, seed)(data.test)

    def run(self, method: str, seed: int) -> tuple[np.ndarray, float]:
        """Return the predictions of one run and its processor seconds, from disk where it was done before."""
        kept = self.work / f"{method.replace(', ', '-').replace(' ', '-')}-{seed}.npz"
        if kept.is_file():
            with np.load(kept) as found:
                return found["predicted"], float(found["seconds"])
        learned = self.denoisers.get(seed, ({}, 0.0))[1] if method.startswith("latent") else 0.0
        begin = time.process_time()
        predicted = self.logits(method, seed).argmax(dim=1).numpy().astype(np.int16)
        # A denoiser that was trained for another profile has cost this one as much.
        seconds = time.process_time() - begin + learned
        stream = io.BytesIO()
        np.savez_compressed(stream, predicted=predicted, seconds=seconds)
        write_bytes(kept, stream.getvalue())
        print(f"{self.work.name}: {method}, seed {seed}: {seconds:.1f} s", file=sys.stderr, flush=True)
        return predicted, seconds


def identity() -> str:
    """Return a digest of this file: what another version has kept is not taken."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def main() -> int:
    """Write the page and the table of runs beside it."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Write the page and the table of runs beside it, and return the page."""
    runtime = Runtime(Numerics(device="cpu", threads=1))
    found = {}
    for name, title in FILES.items():
        data = read(options.data / f"{name}.npz")
        bench = Bench(data, runtime, options.work / identity() / name)
        bench.work.mkdir(parents=True, exist_ok=True)
        runs = {
            method: [bench.run(method, seed) for seed in range(1 if method in FREE else options.seeds)]
            for method in METHODS
        }
        found[title] = latent_diffusion_page.Measured(data.truth, data.counts, runs)
    made_by = {"seeds": options.seeds, "steps": STEPS, "batch": BATCH, "diffusion": DIFFUSION}
    page, table = latent_diffusion_page.write(found, GENERATED, made_by)
    page_record.write_page(options.output, page, "make latent-diffusion")
    write_bytes(options.output.with_suffix(".csv"), table.encode())
    return page


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("datasets/golden"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/latent-diffusion.md"))
    parser.add_argument("--work", type=Path, default=Path(".imbnas/experiments/latent-diffusion"))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
