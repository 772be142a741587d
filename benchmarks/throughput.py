"""Images a second of the chain's heavy steps by the product's own loop, beside what the hardware allows.

Each training runs on random images as the steps run it, input and optimiser included; the share of the input is its own
time over the step's. Ceilings are those of one path, by rates measured in the same run.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ceilings
import numpy as np
import torch
from measures import Rows
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from imbnas.data.augment import Augment
from imbnas.data.order import InstanceSampler
from imbnas.data.raw import Shape
from imbnas.params.recipe import RecipeParams
from imbnas.params.shared import Numerics, Precision
from imbnas.params.space_options import SpaceParams
from imbnas.progress import Log
from imbnas.spaces.paths import path_sampler
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.training import cuda_graphs
from imbnas.training.definition import Training
from imbnas.training.inputs import batches_of
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime
from imbnas.training.scoring import Scorer
from imbnas.training.state import ResumeState

CLASSES, SIDE = 10, 32
SPACES: dict[str, dict[str, Any]] = {
    "shufflenet": {
        "stem": {"channels": 16, "stride": 1},
        "stages": {"channels": [64, 160, 320, 640], "repeats": [4, 4, 8, 4], "strides": [1, 2, 2, 1]},
        "last_channels": 1024,
    },
    "nasbench201": {
        "stem": {"channels": 16, "stride": 1},
        "stages": {"channels": [16, 32, 64], "repeats": [5, 5, 5], "strides": [1, 2, 2]},
        "last_channels": None,
    },
    "resnet": {
        "stem": {"channels": 16, "stride": 1},
        "stages": {"channels": [16, 32, 64], "repeats": [5, 5, 5], "strides": [1, 2, 2]},
        "last_channels": None,
    },
}
"""Single Path One-Shot's widths on 32x32, the published cells, and the ResNet-32 of the long-tailed literature."""
SUBNET = {"shufflenet": (0, 1, 2, 3) * 5, "nasbench201": (3, 1, 2, 3, 2, 3), "resnet": (0,) * 15}
"""One subnet of each, with every operation of weight in it."""


class Images:
    """Random images on the device, as `data.images.ImageStore` gives them."""

    def __init__(self, rows: int, device: torch.device) -> None:
        """Draw the images."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (rows, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        self._images, self._device = images.to(device), device
        self.side = (SIDE, SIDE)
        self.labels = torch.randint(CLASSES, (rows,), generator=generator).to(device)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels for each array of positions."""
        for place in torch.from_numpy(np.concatenate(batches)).to(self._device).split([len(b) for b in batches]):
            yield self.taken(place)

    def taken(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels at positions on the device."""
        return self._images.index_select(0, place), self.labels.index_select(0, place)


@dataclass(frozen=True)
class Bench:
    """Where and how long is measured."""

    device: torch.device
    threads: int
    steps: int
    """Optimiser steps in one timing."""
    rounds: int

    def runtime(self, precision: Precision, channels_last: bool = True) -> Runtime:
        """Return the product's setting."""
        return Runtime(
            Numerics(device=self.device.type, precision=precision, threads=self.threads, channels_last=channels_last)
        )

    def now(self) -> float:
        """Return the time once the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def least(self, call: Callable[[], object]) -> float:
        """Return the least seconds of a call after one to warm up."""
        spent = []
        for _ in range(self.rounds + 1):
            begin = self.now()
            call()
            spent.append(self.now() - begin)
        return min(spent[1:])

    def seconds_a_step(self, training: Training, runtime: Runtime) -> float:
        """Return the least mean seconds of a step over the epochs of a training but the first two."""
        begun: list[float] = []

        def objective(epoch: int) -> Any:
            begun.append(self.now())
            return training.objective(epoch)

        recipe = training.recipe.model_copy(update={"epochs": 2 + self.rounds})
        with tempfile.TemporaryDirectory() as folder:
            state = ResumeState(Path(folder) / "state", "bench", 1e9)
            Trainer(replace(training, objective=objective, recipe=recipe), runtime, state, Log("bench")).fit()
        begun.append(self.now())
        return float(min(np.diff(begun)[2:])) / self.steps


def _space(name: str) -> SearchSpace:
    return make_space(SpaceParams.model_validate({"name": name, **SPACES[name]}))


def _job(bench: Bench, kind: str, space: SearchSpace, batch: int) -> Training:
    """Return a training of the kind supernet (fair paths), or retrain (one subnet)."""
    rows, loss = batch * bench.steps, nn.CrossEntropyLoss()
    augment = Augment(Shape(SIDE, SIDE, 3), "pad", pad=4, flip=True, cutout=0, mean=[0.5] * 3, std=[0.25] * 3)
    torch.manual_seed(0)
    supernet = kind == "supernet"
    return Training(
        kind,
        space.build_supernet(CLASSES, 3) if supernet else space.build_subnet(SUBNET[space.name], CLASSES, 3),
        RecipeParams(epochs=1, batch_size=batch),
        Images(rows, bench.device),
        augment,
        InstanceSampler(np.zeros(rows, np.int64), 0),
        lambda _: loss,
        0,
        passes=path_sampler(space, "fair", 0, kind) if supernet else lambda _: [()],
        capturable=not supernet,
    )


def training(bench: Bench, kind: str, name: str, precision: Precision, batch: int) -> dict[str, Any]:
    """Return images per second of a training (an image counts once for each path), and the input's share of a step.

    On a GPU also what recorded steps and parts gain over asking for each kernel.
    """
    space, runtime = _space(name), bench.runtime(precision)
    paths = max(space.choices) if kind == "supernet" else 1
    training = _job(bench, kind, space, batch)
    spent = bench.seconds_a_step(training, runtime)
    found = {
        "batch": batch,
        "milliseconds_a_step": 1e3 * spent,
        "images_per_second": batch * paths / spent,
        **{key: seconds / spent for key, seconds in _input(bench, training, runtime).items()},
    }
    if bench.device.type == "cuda":
        with asked_for():
            eager = bench.seconds_a_step(_job(bench, kind, space, batch), runtime)
        found["speed_up_by_recordings"] = eager / spent
    return found


def _input(bench: Bench, training: Training, runtime: Runtime) -> dict[str, float]:
    """Return the seconds in which one batch is made ready and nothing else is done: the rows, their augmentation.

    In a training Python asks a GPU for a batch while it computes the one before, so that its own time for it is what
    a step spends; the time until it is done, which Python may need, is the most that it can be.
    """
    batches = batches_of(training.sampler.epoch(0), training.recipe.batch_size)

    def epoch() -> None:
        for step, (images, _) in enumerate(training.store.batches(batches)):
            runtime.lay_out(training.augment(images, torch.Generator().manual_seed(step)))

    alone = bench.least(epoch) / len(batches)
    if bench.device.type != "cuda":
        return {"share_of_input": alone}
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        epoch()
        torch.cuda.synchronize()
    busy = sum(event.self_device_time_total for event in seen.key_averages())
    return {"share_of_input": busy / 1e6 / len(batches), "share_of_input_at_most": alone}


@contextmanager
def asked_for() -> Iterator[None]:
    """Let nothing be recorded."""
    before, cuda_graphs.EAGER = cuda_graphs.EAGER, 10**9
    try:
        yield
    finally:
        cuda_graphs.EAGER = before


def evaluation(bench: Bench, name: str, precision: Precision) -> dict[str, Any]:
    """Return images per second of scoring subnets one by one as the search does, statistics included."""
    space, runtime = _space(name), bench.runtime(precision)
    torch.manual_seed(0)
    supernet = space.build_supernet(CLASSES, 3)
    augment = Augment(Shape(SIDE, SIDE, 3), "none", pad=0, flip=False, cutout=0, mean=[0.5] * 3, std=[0.25] * 3)
    count, batch = (2048, 512) if bench.device.type == "cuda" else (128, 128)
    rows = Rows(count, batch, 1, bench.device), Rows(count, batch, 2, bench.device)
    scorer = Scorer(runtime, supernet, *rows, augment, CLASSES)  # type: ignore[arg-type]
    paths = path_sampler(space, "fair", 0, "evaluate")(0)
    spent = bench.least(lambda: [scorer(*path) for path in paths])
    return {
        "batch": batch,
        "milliseconds_a_step": 1e3 * spent / len(paths) / (2 * count / batch),
        "images_per_second": 2 * count * len(paths) / spent,
    }


def ceiling(bench: Bench, kind: str, name: str, precision: Precision, rates: ceilings.Rates) -> dict[str, float]:
    """Return the images per second that arithmetic and memory allow: of fair paths the mean, else of the subnet."""
    space, runtime = _space(name), bench.runtime(precision)
    images = runtime.lay_out(torch.randn(8, 3, SIDE, SIDE, device=bench.device))
    paths = [SUBNET[name]] if kind == "retrain" else [path for (path,) in path_sampler(space, "fair", 0, kind)(0)]
    table, width = space.cost_table((SIDE, SIDE, 3), CLASSES), 2 if precision == "bf16" else 4
    spent = []
    for path in paths:
        subnet = runtime.place(space.build_subnet(path, CLASSES, 3)).train()
        found = ceilings.work(subnet, images, kind != "evaluation", width, table.cost(path).macs)
        spent.append(found.seconds(rates))
    arithmetic, memory = (len(spent) / sum(seconds) for seconds in zip(*spent, strict=True))
    return {"allowed_by_arithmetic": arithmetic, "allowed_by_memory": memory}


CASES = (
    ("supernet", "shufflenet", 96),
    ("supernet", "nasbench201", 64),
    ("retrain", "shufflenet", 128),
    ("retrain", "nasbench201", 128),
    ("retrain", "resnet", 128),
    ("evaluation", "shufflenet", 0),
    ("evaluation", "nasbench201", 0),
)
"""What is measured, on which space, with how many rows in a batch."""


def main() -> None:
    """Print the measurements as JSON: device, threads, rounds and precisions are on the command line."""
    name, threads, rounds, *precisions = sys.argv[1:]
    device = torch.device(name)
    bench = Bench(device, int(threads), 64 if name == "cuda" else 2, int(rounds))
    found: dict[str, Any] = {"rates": {}, "cases": []}
    chosen: Any = precisions
    for precision in chosen:
        bench.runtime(precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        rates = ceilings.rates(device, dtype, bench.least)
        found["rates"][precision] = rates._asdict()
        for kind, space, batch in CASES:
            if kind == "evaluation":
                measured = evaluation(bench, space, precision)
            else:
                measured = training(bench, kind, space, precision, batch)
            measured |= ceiling(bench, kind, space, precision, rates)
            found["cases"].append({"what": kind, "space": space, "precision": precision, **measured})
            print(found["cases"][-1], file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
