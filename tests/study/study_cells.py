"""Finished cells without training: what `imbnas study collect` reads, with answers that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imbnas.data.stored import write_table
from imbnas.files import write_bytes, write_json
from imbnas.params.config import Params, load, parse
from imbnas.run.graph import STEPS
from imbnas.study.plan import Plan, cells, levels, place, plan
from imbnas.study.results import SCORES

ROOT = Path(__file__).resolve().parents[2]
AXES: dict[str, list[Any]] = {"imbalance.ratio": [10.0, 50.0], "adapt.strategy": ["head", "scratch"], "seed": [0, 1]}
CLASSES, ROWS = 3, 30
COUNTS = {10.0: [40, 9, 4], 50.0: [40, 6, 1]}


def study(axes: dict[str, list[Any]] | None = None, margin: float | None = None) -> Params:
    """Return the default parameters with other axes."""
    tree = load(ROOT / "params.yaml").tree()
    tree["study"] = {"axes": AXES if axes is None else axes, "margin": margin}
    return parse(tree, "params.yaml")


def planned(params: Params) -> Plan:
    return plan(cells(params, "params.yaml"))


def right(level: dict[str, Any]) -> int:
    """Return how many of each class's ten test rows the chosen network of a cell gets right."""
    return 8 - 2 * (level["imbalance.ratio"] == 50.0) + (level["adapt.strategy"] == "scratch") - (level["seed"] == 1)


def scattered(level: dict[str, Any]) -> int:
    """Return another such number, whose differences depend on the seed."""
    strategy = {"head": 0, "scratch": 2, "none": 1}[level["adapt.strategy"]]
    return 6 - 2 * (level["imbalance.ratio"] == 50.0) + strategy - (level["seed"] * (1 + strategy)) % 3


def write_cells(
    root: Path,
    params: Params,
    right: Callable[[dict[str, Any]], int] = right,
    shared: bool = False,
    random: Sequence[int] = (),
) -> Plan:
    """Write the results of every cell; `shared` gives all the same test rows, else each seed has its own.

    `random` holds how many more of each class's rows than the chosen network each random reference gets right.
    """
    made = planned(params)
    for number, level in enumerate(levels(params)):
        jobs = made.cells[number]
        for name in STEPS["evaluate"].outputs:
            path = root / place(name, jobs["evaluate"])
            if name in ("figures", "plots"):
                path.mkdir(parents=True)
            else:
                write_bytes(path, b"")
        write_json(root / made.place("details", number), details(level, right(level), shared))
        write_predictions(root / made.place("predictions", number), right(level), random)
    return made


def details(level: dict[str, Any], hits: int, shared: bool) -> dict[str, Any]:
    share = hits / 10
    entry = {
        **dict.fromkeys(SCORES, share),
        "intervals": {"balanced_accuracy": [share - 0.05, share + 0.05]},
        "macs": 1000,
        "params": 100,
        "architecture": [0, 1],
    }
    counts = COUNTS[level["imbalance.ratio"]]
    return {
        "seed": level["seed"],
        "digests": {"target_test": "test" if shared else f"test-{level['seed']}", "longtail": "x"},
        "imbalance": {"counts": counts},
        "shots": {"rule": "thirds", "thresholds": None, "text": "", "classes": {}},
        "confidence": {"level": 0.9, "resamples": 200},
        "networks": {"final": entry, "largest": {**entry, "balanced_accuracy": 1.0}},
    }


def write_predictions(path: Path, hits: int, random: Sequence[int] = ()) -> None:
    """Write answers on ROWS rows, `hits` of ten right in every class; the network `largest` errs always."""
    label = np.arange(ROWS) % CLASSES
    good = np.arange(ROWS) // CLASSES < hits
    final = np.where(good, label, (label + 1) % CLASSES)
    answers = {"final": final, "largest": (label + 1) % CLASSES}
    for number, more in enumerate(random, 1):
        known = np.arange(ROWS) // CLASSES < hits + more
        answers[f"random-{number}"] = np.where(known, label, (label + 1) % CLASSES)
    table = {
        "network": np.repeat(list(answers), ROWS),
        "row": np.tile(np.arange(ROWS), len(answers)),
        "label": np.tile(label, len(answers)).astype(np.int32),
        "predicted": np.concatenate(list(answers.values())).astype(np.int32),
    }
    write_table(path, pa.table(table))
