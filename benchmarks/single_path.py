"""The part `single-path`: imbnas beside a plain loop of Single Path One-Shot, and beside an earlier version of itself.

Every system is a process of its own and they are asked in turn, path by path. A ratio is the median over all turns of
the seconds of the plain loop, or of the earlier version, over those of imbnas in the same turn. `imbnas-fast` has the
parameters that change bits: `runtime.channels_last: tiled` in training, `search.fold_batchnorm` in evaluation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Protocol

BATCHES = {"train": 64, "evaluate": 250}
PATHS = [[(block + first) % 4 for block in range(20)] for first in range(4)]
"""Four paths in which every candidate of every block occurs once."""


class Asked(Protocol):
    """A system in a process of its own."""

    def seconds(self, task: str, path: list[int], batch: int, repeat: int = 1) -> float:
        """Return the seconds of one task on a path."""

    def stop(self) -> None:
        """End the process."""


def beside_plain(options: argparse.Namespace, start: Callable[[str, Path | None], Asked]) -> dict[str, Any]:
    """Return images per second of every system, and the ratios; `start` takes a system and its version's sources."""
    endings = ["", "-bf16"][: 1 + ("bf16" in options.precisions)]
    kinds = (*(("before",) if options.before else ()), "imbnas", "imbnas-fast")
    names = ["plain", *(kind + ending for ending in endings for kind in kinds)]
    workers = {name: start(name, options.before if name.startswith("before") else None) for name in names}
    found: dict[str, Any] = {}
    for task, batch in BATCHES.items():
        turns: list[dict[str, float]] = []
        for path in PATHS:
            for turn in range(options.rounds + 1):
                spent = {name: worker.seconds(task, path, batch, options.repeat) for name, worker in workers.items()}
                if turn:  # the first turn warms up
                    turns.append(spent)
                    print(task, path[0], {name: round(seconds, 4) for name, seconds in spent.items()}, flush=True)
        found[task] = {"batch": batch, **figures(turns, batch)}
    for worker in workers.values():
        worker.stop()
    return found


def figures(turns: list[dict[str, float]], batch: int) -> dict[str, Any]:
    """Return images per second by the median seconds, and the ratios of each system over those it is compared with."""
    rates = {name: batch / median(turn[name] for turn in turns) for name in turns[0]}
    over: dict[str, dict[str, float]] = {}
    for name in rates:
        if name.startswith("imbnas"):
            over[name] = {
                other: median(turn[other] / turn[name] for turn in turns)
                for other in ("plain", _before(name))
                if other in rates
            }
    return {"images_per_second": rates, "over": over}


def _before(name: str) -> str:
    return "before" + "-bf16" * name.endswith("bf16")


def table(found: Mapping[str, Any]) -> list[list[Any]]:
    """Return the rows of a task's table: system, images per second, over the plain loop, over the version before."""
    rows = []
    for name, rate in found["images_per_second"].items():
        over = found["over"].get(name, {})
        before = over.get(_before(name), "")
        rows.append([name, rate, over.get("plain", ""), before])
    return rows
