"""Whether a preset's architectures differ by more than trainings of one of them do, and what that caps a ranking at.

    python experiments/spread.py --preset cells-32 --data DIR
    python experiments/spread.py --preset cells-64 --data DIR --cells 8 --trainings 2 --epochs 6 --largest 250

Random architectures of the preset's space are trained alone by its recipe, with a few seeds each, as a truth table
below `.imbnas/spread`. `--epochs` and `--largest` make that a matter of minutes; without them the preset's own count.
Trainings that are finished are not repeated, so that the command may be killed and given again, or with more seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from experiment_command import run
from longtail import merged
from seeds_table import train
from study_jobs import Tree

from imbnas.errors import UserError
from imbnas.files import write_bytes
from imbnas.params import presets
from imbnas.params.truth import SECTIONS, text_of
from imbnas.progress import Log
from imbnas.seeds import stream
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.truth.agreement import Figure, ceiling, figure, spread
from imbnas.truth.places import Table
from imbnas.truth.whole_seeds import whole

CONDITION = "longtail"
FIGURES = {
    "standard deviation of the architectures' true means, points": lambda one: 100.0 * one.between,
    "standard deviation of a training around its architecture's mean, points": lambda one: 100.0 * one.within,
    "the first as a multiple of the second": lambda one: one.between / one.within if one.within else np.nan,
    "share of one training's variance that is the architecture's": lambda one: one.reliability(1),
    "ceiling: tau that the true ranking has with one training of each": lambda one: ceiling(one.reliability(1)),
    "the same with the mean of three trainings of each": lambda one: ceiling(one.reliability(3)),
}
SHARE = 0.5
RATIO = "the first as a multiple of the second"


def described(preset: str, options: argparse.Namespace) -> Tree:
    """Return the description of the table: the preset's data, space and recipe, and random architectures."""
    tree = presets.params(preset).tree()
    if options.epochs:
        tree["retrain"]["epochs"] = options.epochs
    if options.largest:
        tree["imbalance"]["n_max"] = options.largest
    fixed: Tree = {"runtime": {"device": "cpu", "threads": 1, "processes": 1}}
    # Nothing is trained on the source: images that come with a library stand in for it.
    fixed |= {"source": {"dataset": "digits", "root": "datasets/digits", "download": False, "share": SHARE}}
    tree = merged(tree, {**fixed, "target": {"download": False}})
    space = make_space(presets.params(preset).space)
    rng, cells = stream(0, "spread", preset), list[Architecture]()
    for _ in range(100 * options.cells):
        cell = space.sample(rng)
        if cell not in cells and len(cells) < options.cells:
            cells.append(cell)
    if len(cells) < options.cells:
        raise UserError(f"--cells {options.cells}: found {len(cells)} in the space of {preset}, expected as many")
    return {
        "about": f"Random architectures of the preset {preset}, to tell how far they differ.",
        "drawn": "Uniformly from the space.",
        **{name: tree[name] for name in SECTIONS},
        "conditions": {CONDITION: tree["imbalance"]},
        "seeds": options.trainings,
        "cells": [text_of(cell) for cell in cells],
    }


def made(preset: str, options: argparse.Namespace) -> Table:
    """Return the table, whose description is written unless it is there."""
    root, given = options.work.resolve(), described(preset, options)
    own = "".join(f"-{name}{value}" for name, value in (("e", options.epochs), ("n", options.largest)) if value)
    file = root / "tables" / f"{preset}{own}.yaml"
    text = yaml.safe_dump(json.loads(json.dumps(given)), sort_keys=False, width=120)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        write_bytes(file, text.encode())
    for section in ("source", "target"):
        (root / given[section]["root"]).mkdir(parents=True, exist_ok=True)
    return Table(file, root, options.data)


def figures(scores: np.ndarray) -> dict[str, Figure]:
    """Return the figures of scores (seeds, cells) with intervals over a bootstrap of the cells."""

    def of(measure: Callable[[object], float]) -> Callable[[np.ndarray], float]:
        return lambda places: float(measure(spread(scores, places)))

    return {name: figure(of(measure), scores.shape[1]) for name, measure in FIGURES.items()}


def told(preset: str, table: Table) -> str:
    """Return what the table shows."""
    found = whole(table.beside(".parquet"))
    scores = found.scores(CONDITION, "test")
    means, recipe = 100.0 * scores.mean(axis=0), table.spec.retrain
    rows = figures(scores)
    lines = [
        f"{preset}: {len(means)} random architectures, {len(scores)} trainings of each, {recipe.epochs} epochs with "
        f"{recipe.loss}, balanced accuracy on the test rows",
        f"means from {means.min():.1f} to {means.max():.1f} %, median {np.median(means):.1f} %",
        *(f"{name}: {one.text()}" for name, one in rows.items()),
    ]
    more = rows[RATIO].low > 1.0
    word = "Architectures differ by more than seeds do" if more else "It is not shown that architectures differ by more"
    lines.append(f"{word}: the multiple's interval (95 %, over the architectures) begins at {rows[RATIO].low:.2f}.")
    return "\n".join(lines)


def main() -> int:
    """Train what is missing and tell what it shows."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Train what is missing and return what it shows."""
    for name, least in (("cells", 4), ("trainings", 2), ("epochs", 1), ("largest", 1)):
        if (value := getattr(options, name)) is not None and value < least:
            raise UserError(f"--{name} {value}: expected at least {least}")
    table = made(options.preset, options)
    train([], table, Log("spread"))
    return told(options.preset, table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="cells-32", help="a preset's name")
    parser.add_argument("--data", type=Path, help="raw files of the target, in place of target.root")
    parser.add_argument("--work", type=Path, default=Path(".imbnas/spread"), help="where everything goes")
    parser.add_argument("--cells", type=int, default=8, help="architectures, four at the least")
    parser.add_argument("--trainings", type=int, default=2, help="of each architecture, two at the least")
    parser.add_argument("--epochs", type=int, help="of a training, in place of the preset's")
    parser.add_argument("--largest", type=int, help="rows of the largest class, in place of the preset's")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
