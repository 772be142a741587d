"""Time of a search epoch: ours against a plain transcription of the DARTS loop, same size, same machine.

The zeroth order (ZO-DARTS+) is compared with our first and second. Run `python benchmarks/darts.py --help`. All search
on the same images with the same batches; epochs alternate, so that whatever else the machine does falls on all, and the
ratio of the fastest ones is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))

import darts_plain

from imbnas.data.augment import Augment
from imbnas.data.order import InstanceSampler
from imbnas.data.raw import Shape
from imbnas.differentiable.bilevel_search import SearchTrainer
from imbnas.differentiable.feeds import Feed
from imbnas.differentiable.learners import Classifier
from imbnas.differentiable.relaxation import ArchitectureParameters, Relaxation
from imbnas.differentiable.search_definition import BilevelSearch
from imbnas.params.differentiable import DartsParams
from imbnas.params.shared import Numerics
from imbnas.progress import Log
from imbnas.spaces.darts import DartsSpace, Size
from imbnas.spaces.darts_ops import OPERATIONS
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

CLASSES = 10
Order = Literal["first", "second", "zeroth"]


class Memory:
    """Images in memory, as `data.images.ImageStore` gives them."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for rows in batches:
            place = torch.from_numpy(rows)
            yield self.images[place], self.labels[place]


def ours(options: argparse.Namespace, store: Memory, order: Order) -> Callable[[], None]:
    """Return a function that takes one epoch of our search."""
    relaxation: Relaxation = "sparsemax" if order == "zeroth" else "softmax"
    shape = Shape(options.side, options.side, 3)
    space = DartsSpace(Size(options.channels, options.layers), Size(4, 3), OPERATIONS)
    runtime = Runtime(Numerics(device="cpu", threads=options.threads))
    learner = Classifier(space.build_supernet(CLASSES, 3))
    half = options.steps * options.batch
    rows = np.arange(2 * half)
    feeds = [
        [Feed(part, InstanceSampler(part, seed), options.batch)] for seed, part in enumerate((rows[:half], rows[half:]))
    ]
    search = BilevelSearch(
        params=DartsParams(order=order, relaxation=relaxation, epochs=1),
        frozen=False,
        learner=learner,
        parameters=ArchitectureParameters(learner.network.layout, relaxation),
        store=store,
        augment=Augment(shape, "none", 0, False, 0, (0.5,) * 3, (0.25,) * 3),
        feeds=(feeds[0], feeds[1]),
        objective=lambda epoch: F.cross_entropy,
        seed=0,
        describe=lambda relaxed, epoch: {},
    )
    folder = Path(tempfile.mkdtemp())

    def epoch() -> None:
        state = ResumeState(folder, order, 1e9)
        SearchTrainer(search, runtime, state, Log("search")).fit()
        state.finish()

    return epoch


def plain(options: argparse.Namespace, store: Memory, order: str) -> Callable[[], None]:
    """Return a function that takes one epoch of the transcription."""
    model = darts_plain.Network(options.channels, options.layers, 3, CLASSES)
    architect = darts_plain.Architect(model)
    sgd = torch.optim.SGD(model.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
    half = options.steps * options.batch
    images = store.images.float() / 255.0 / 0.25 - 2.0
    halves = [
        torch.utils.data.TensorDataset(images[part], store.labels[part])
        for part in (slice(half), slice(half, 2 * half))
    ]
    loaders = [torch.utils.data.DataLoader(data, options.batch, shuffle=True) for data in halves]

    def epoch() -> None:
        batches = [(x, y) for x, y in loaders[0]]
        darts_plain.epoch(model, architect, sgd, batches, lambda: next(iter(loaders[1])), 0.025, order == "second")

    return epoch


def main() -> None:
    """Measure and print one line for each order."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("channels", 8), ("layers", 5), ("side", 32), ("batch", 64), ("steps", 2), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--order", choices=["first", "second", "zeroth"], action="append")
    options = parser.parse_args()
    torch.manual_seed(0)
    count = 2 * options.steps * options.batch
    store = Memory(
        torch.randint(0, 256, (count, 3, options.side, options.side), dtype=torch.uint8),
        torch.randint(0, CLASSES, (count,)),
    )
    size = (
        f"C {options.channels}, L {options.layers}, {options.side} pixels, batch {options.batch}, "
        f"{options.threads} threads"
    )
    for order in options.order or ["first", "second"]:
        runs = {"ours": ours(options, store, order)}
        if order == "zeroth":
            runs |= {other: ours(options, store, other) for other in ("first", "second")}
        else:
            runs["plain"] = plain(options, store, order)
        best = fastest(runs, options.rounds)
        shown = ", ".join(
            f"{name} {best[name] / options.steps:.3f} s a step, ratio {best[name] / best['ours']:.2f}"
            for name in list(runs)[1:]
        )
        print(f"{order} order, {size}: ours {best['ours'] / options.steps:.3f} s a step, {shown}", flush=True)


def fastest(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the least seconds of each run's epochs, which alternate; the first of each is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            # What our runtime sets for itself must not slow the transcription down.
            torch.use_deterministic_algorithms(name != "plain")
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: min(found) for name, found in seconds.items()}


if __name__ == "__main__":
    main()
