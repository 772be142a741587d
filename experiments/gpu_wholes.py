"""Figures of `make gpu` that take more than one step of a training: policies ahead, whole steps, and a peer beside.

They are pieces of the part `ratios`, on random images: no figure of them depends on pixels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import run as benchmark_run
import throughput
from gpu_setting import Setting

from imbnas.data.augment import Augment
from imbnas.data.images import ImageStore
from imbnas.data.materialise import write_split
from imbnas.data.policy import Policy
from imbnas.data.raw import Raw, Shape
from imbnas.data.stored import read_split
from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.run.graph import PATHS
from imbnas.run.runner import run_step

Measurement = Callable[[], dict[str, Any]]
PRESET = "cifar10-lt"
"""Whose space, adaptation and search are timed as wholes."""
ROWS = {"source": 500, "target": 2450, "validation": 50}
"""Of each class; the target's are cut to a long tail of the preset's ratio."""
EPOCHS, GENERATIONS = 2, 2
"""Of the head and of the search, in place of the preset's: their seconds grow in proportion."""
WORKERS = (0, 2, 8)
REPEAT = 10
"""Steps in one timing beside the peer."""


def measurements(setting: Setting, bench: throughput.Bench, precision: Any) -> Iterator[tuple[str, Measurement]]:
    """Yield the name and the call of each figure of a precision."""
    yield f"adapt and search {precision}", partial(wholes, setting, precision)
    for workers in WORKERS[:2] if setting.tiny else WORKERS:
        yield f"policy ahead {workers} {precision}", partial(policy_ahead, bench, workers, precision)
    yield f"beside xautodl {precision}", partial(beside_xautodl, setting, precision)


# Whole steps


def wholes(setting: Setting, precision: Any) -> dict[str, Any]:
    """Return the seconds of the steps `adapt` and `search` from their beginning to their written outputs.

    The supernet is untrained, which costs no step of a training and changes no time.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        params = chain(setting, precision)
        write_rows(root, params, {key: min(count, 8) for key, count in ROWS.items()} if setting.tiny else ROWS)
        seconds = {}
        for step in ("imbalance", "supernet", "adapt", "search"):
            begin = time.perf_counter()
            if code := run_step(step, params, root):
                raise RuntimeError(f"{step} ended with code {code}")
            seconds[step] = time.perf_counter() - begin
        rows = pq.read_metadata(root / PATHS["longtail"]).num_rows
    budget = {"epochs": params.adapt.head.epochs, "candidates": params.search.population * params.search.generations}
    return {"rows": rows, **budget, "seconds": {step: seconds[step] for step in ("adapt", "search")}}


def chain(setting: Setting, precision: Any) -> Params:
    """Return the preset's parameters with a short budget, and in a rehearsal a tiny space."""
    tree = presets.params(PRESET).tree()
    tree["runtime"] |= {"device": setting.device, "precision": precision}
    tree["supernet"] |= {"epochs": 0, "probe_paths": 1}
    tree["adapt"]["head"]["epochs"] = EPOCHS
    tree["search"]["generations"] = GENERATIONS
    if setting.tiny:
        tree["runtime"]["threads"], tree["imbalance"]["ratio"] = 1, 4.0
        tree["space"] |= {"stem": {"channels": 4, "stride": 1}, "last_channels": 8}
        tree["space"]["stages"] = {"channels": [8, 16], "repeats": [1, 1], "strides": [2, 2]}
        tree["adapt"]["head"]["epochs"] = 1
        tree["search"] |= {"population": 4, "parents": 2, "generations": 1, "max_macs": None}
        tree["search"]["calibration"]["rows"] = 32
    return parse(tree, f"preset {PRESET}")


def write_rows(root: Path, params: Params, rows: dict[str, int]) -> None:
    """Write random images as the splits that the steps from `imbalance` to `search` read."""
    draws = np.random.default_rng(0)
    splits = {
        "source_train": ("source", rows["source"], params.source.dataset),
        "source_validation": ("source", rows["validation"], params.source.dataset),
        "target_train": ("target", rows["target"], params.target.dataset),
        "target_validation": ("target", rows["validation"], params.target.dataset),
    }
    for name, (half, count, dataset) in splits.items():
        random_split(root / PATHS[name], count, draws, dataset, str(getattr(params, half).root))


def random_split(place: Path, per_class: int, draws: np.random.Generator, dataset: str, folder: str) -> None:
    """Write a split of random images with the same number of rows in each class."""
    side = throughput.SIDE
    labels = np.arange(per_class * throughput.CLASSES) % throughput.CLASSES
    images = draws.integers(0, 256, (len(labels), side, side, 3), np.uint8)
    raw = Raw(labels, [str(number) for number in range(throughput.CLASSES)], images, None, place)
    shape = Shape(side, side, 3)
    write_split(
        place, raw, np.arange(len(labels)), shape, dataset=dataset, split="train", root=folder, photographs=True
    )


# Policies


def policy_ahead(bench: throughput.Bench, workers: int, precision: Any) -> dict[str, Any]:
    """Return the milliseconds of a step of ResNet-32 whose images AutoAugment changes, made by workers ahead of it."""
    batch = next(size for kind, name, size in throughput.CASES if (kind, name) == ("retrain", "resnet"))
    job, runtime = throughput._job(bench, "retrain", throughput._space("resnet"), batch), bench.runtime(precision)
    shape, policy = Shape(throughput.SIDE, throughput.SIDE, 3), Policy("autoaugment-cifar10")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "rows"
        random_split(place, -(-batch * bench.steps // throughput.CLASSES), np.random.default_rng(0), "cifar10", ".")
        store = ImageStore(read_split(place), np.arange(batch * bench.steps), bench.device, workers)
        augment = Augment(shape, "pad", 4, True, 0, [0.5] * 3, [0.25] * 3, policy)
        spent = bench.seconds_a_step(replace(job, store=store, augment=augment), runtime)
        plain = bench.seconds_a_step(job, runtime)
    return {
        "batch": batch,
        "workers": workers,
        "milliseconds_a_step": 1e3 * spent,
        "without_policy": 1e3 * plain,
        "images_per_second": batch / spent,
    }


# A peer


def beside_xautodl(setting: Setting, precision: str) -> dict[str, Any]:
    """Return milliseconds of a step by `make bench`'s systems, by path and task; recorded parts are ours.

    Where xautodl is not installed, ours are measured alone, and `peer` says so.
    """
    systems = [f"imbnas-{precision}", "imbnas"]
    peer = find_spec("xautodl") is not None
    options = argparse.Namespace(device=setting.device, threads=1, clock="wall")
    found: dict[str, Any] = {"peer": peer, "milliseconds_a_step": {}}
    with started([*(["xautodl"] if peer else []), *systems], options) as workers:
        for path in benchmark_run.PATHS[-1:] if setting.tiny else benchmark_run.PATHS[::5]:
            for task, batch in {"train": 2, "evaluate": 2}.items() if setting.tiny else benchmark_run.BATCHES.items():
                best: dict[str, float] = {}
                for turn in range(1 if setting.tiny else 4):
                    for name, worker in workers.items():
                        spent = 1e3 * worker.seconds(task, path, batch, 1 if setting.tiny else REPEAT)
                        # The first turn warms up, and lets a GPU record.
                        best[name] = spent if turn < 2 else min(best[name], spent)
                found["milliseconds_a_step"]["-".join(map(str, path)) + " " + task] = best
    return found


@contextmanager
def started(names: list[str], options: argparse.Namespace) -> Iterator[dict[str, benchmark_run.Worker]]:
    """Start systems, and end them."""
    workers = {name: benchmark_run.Worker(name, options) for name in names}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.stop()
