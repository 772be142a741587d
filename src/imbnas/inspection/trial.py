"""A trial of a few steps: what one image takes on this machine, in training and in evaluation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from imbnas.data.augment import Augment, load_side, resolve_augment
from imbnas.data.decode import decode_file
from imbnas.data.raw import Raw, Reading, Shape, resize_rule
from imbnas.errors import UserError
from imbnas.params.config import Params
from imbnas.params.dataset import PATH_DATASETS
from imbnas.run.machine import check_memory
from imbnas.seeds import derive, stream
from imbnas.spaces.registry import make_space
from imbnas.training.optimizer import make_optimizer
from imbnas.training.runtime import Runtime

LEAST_SECONDS, MOST_TIMES = 0.25, 8
"""A part is run again until it has taken so long, at most so often."""
FEWEST, SLOW = 8, 8.0
"""Images of a first call on a CPU; times LEAST_SECONDS after which it stays the only one."""
WORK = {"cpu": 1_500_000_000, "cuda": 1_500_000_000_000}
"""Multiplications of one forward pass of the trial: batches that take more are timed with fewer images."""
PATHS = 4
"""Random paths that are timed: they differ in cost."""
BUSY = 1.0
"""Programs per processor from which other work decides what a trial takes."""
DECODED = 24
"""Files that are decoded to see how long that takes."""


@dataclass(frozen=True)
class Pace:
    """Seconds per image and path: a training step, an evaluation; and per image the decoding of its file."""

    training: float
    evaluation: float
    decoding: float
    device: str
    images: int
    """Most images in a batch of the trial."""
    choices: int
    """Of the widest choice block: a fair step takes as many paths."""
    busy: float = 0.0
    """Programs that the machine ran on each of its processors in the minute before the trial."""


def trial(params: Params, classes: int, raw: Raw | None = None) -> Pace:
    """Return the pace of random paths at the size of the target's images; files of `raw` are decoded.

    The images are noise: no data is needed. In the space darts it is the pace of final networks, which are larger than
    paths of the network that is searched.
    """
    # A network that no step could hold is not built here either.
    check_memory("supernet", params)
    runtime = Runtime(params.runtime)
    space = make_space(params.space)
    shape = Shape(*params.target.shape)
    torch.manual_seed(derive(params.seed, "trial"))
    paths = [space.sample(stream(params.seed, "trial", number)) for number in range(PATHS)]
    final = params.space.name == "darts"
    made = [space.build_subnet(path, classes, shape.channels) for path in paths] if final else []
    models = cast(nn.ModuleList, runtime.place(nn.ModuleList(made or [space.build_supernet(classes, shape.channels)])))
    each = [(model,) for model in models] if final else [(models[0], path) for path in paths]
    table = space.cost_table(params.target.shape, classes)
    macs = max(table.cost(path).macs for path in paths)
    count = max(2, min(params.retrain.acting.batch_size, WORK[runtime.device.type] // max(1, macs)))
    images = torch.randint(0, 256, (count, shape.channels, shape.height, shape.width), dtype=torch.uint8)
    images, labels = images.to(runtime.device), torch.arange(count, device=runtime.device) % classes
    optimizer = make_optimizer(models, params.supernet.optimizer)
    augment = _augment(params, shape)

    def train(number: int) -> None:
        batch = runtime.lay_out(augment(images[:number], torch.Generator().manual_seed(0)))
        for model, *path in each:
            optimizer.zero_grad()
            cross_entropy(runtime.forward(model, batch, *path), labels[:number]).backward()
            optimizer.step()

    def evaluate(number: int) -> None:
        batch = runtime.lay_out(augment(images[:number], None))
        with torch.no_grad():
            for model, *path in each:
                runtime.forward(model, batch, *path)

    busy = _busy()
    with _threads(1 if busy > BUSY else params.runtime.threads):
        models.train()
        training = _seconds(train, count, runtime) / PATHS
        models.eval()
        evaluation = _seconds(evaluate, count, runtime) / PATHS
    decoding = _decoding(params, raw)
    return Pace(training, evaluation, decoding, runtime.device_name, count, max(space.choices), busy)


def _augment(params: Params, shape: Shape) -> Augment:
    recipe = params.retrain.acting.augment
    kind = "paths" if params.target.dataset in PATH_DATASETS else "array"
    found = resolve_augment(recipe.crop, recipe.pad, recipe.flip, True, kind, shape.height)
    middle = [0.5] * shape.channels
    return Augment(shape, found.crop, found.pad, found.flip, recipe.cutout, middle, middle)


def _seconds(call: Callable[[int], Any], most: int, runtime: Runtime) -> float:
    """Return the median seconds of a call per image.

    On a CPU the call begins with FEWEST images, and has more until it takes LEAST_SECONDS or has `most` of them: where
    other programs hold the processors, nobody has to wait for a large batch.
    """

    def taken(number: int) -> float:
        begin = time.perf_counter()
        call(number)
        if runtime.device.type == "cuda":
            torch.cuda.synchronize(runtime.device)
        return time.perf_counter() - begin

    number = min(FEWEST, most) if runtime.device.type == "cpu" else most
    first = taken(number)
    if runtime.device.type == "cpu" and first > SLOW * LEAST_SECONDS:
        # To run it again would not be worth the wait, which is not its first call's; a GPU's is, which loads libraries.
        return first / number
    found = [taken(number)]
    while sum(found) < LEAST_SECONDS and len(found) < MOST_TIMES:
        if number < most:
            number, found = min(most, 4 * number), []
        found.append(taken(number))
    return median(found) / number


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute on so many threads.

    On a busy machine one is enough: several would wait for each other at every layer, minutes for a few images.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _busy() -> float:
    """Return the programs that ran on each processor in the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0


def _decoding(params: Params, raw: Raw | None) -> float:
    """Return the seconds that a file takes to become an array; 0 where images are arrays."""
    if raw is None or raw.paths is None:
        return 0.0
    step = max(1, len(raw.paths) // DECODED)
    side, _, channels = params.target.shape
    reading = Reading(load_side(resize_rule(params.target.resize, side), side), channels)
    taken = []
    for path in raw.paths[::step][:DECODED]:
        begin = time.perf_counter()
        try:
            decode_file(raw.root / path, reading)
        except UserError:
            continue
        taken.append(time.perf_counter() - begin)
    return median(taken) if taken else 0.0
