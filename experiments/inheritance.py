"""Final trainings that begin with the supernet's weights beside those from scratch, on three pairs of data: a page.

    python experiments/inheritance.py --on digits
    python experiments/inheritance.py --data DIR

`DIR` holds CIFAR-10 and CIFAR-100 as torchvision reads them, or CIFAR-100 as cifar100.npz. Everything is the
product's own steps. A cell is one training of the chosen network and its references: by an arm (weights, loss), for
some epochs, of one seed. What is finished is not computed again, so that the command may be killed and given again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adaptation_place import Place, Tree
from experiment_command import run
from inheritance_rows import Judge, joined
from longtail import merged

from imbnas import page_record
from imbnas.errors import UserError
from imbnas.run.graph import PATHS, cost_details

LOSSES: dict[str, Tree] = {
    "deferred re-weighting": {"loss": "effective-number", "weighting": {"defer": 0.8}},
    "balanced softmax": {"loss": "balanced-softmax"},
    "cRT": {"loss": "ce", "head": {"name": "crt"}},
}
"""What each loss changes in `retrain`."""
SCRATCH, HANDED, JOINT = "scratch", "handed", "scratch, source and target rows"
CIFAR: Tree = {
    "space": {
        "name": "nasbench201",
        "stem": {"channels": 8},
        "stages": {"channels": [8, 16, 32], "repeats": [1, 1, 1], "strides": [1, 2, 2]},
        "last_channels": None,
    },
    "source": {"dataset": "cifar10", "root": "cifar10", "share": 0.5, "download": False},
    "target": {
        "dataset": "cifar10",
        "root": "cifar10",
        "download": False,
        "image_size": 16,
        "validation": {"per_class": 100},
    },
    "imbalance": {"ratio": 100.0, "n_max": 1000},
    "supernet": {
        "epochs": 36,
        "batch_size": 128,
        "sampling": "uniform",
        "optimizer": {"lr": 0.1, "weight_decay": 5.0e-4},
    },
    "adapt": {"sampling": "uniform", "head": {"epochs": 20, "batch_size": 128}},
    "search": {"population": 20, "generations": 8, "max_macs": None},
    "retrain": {"epochs": 24, "batch_size": 64, "optimizer": {"lr": 0.1, "weight_decay": 5.0e-4}},
}
"""Cells of NAS-Bench-201 on 16 pixels, and about 2,500 rows, 1,000 to 10 per class."""
REFERENCES: Tree = {"random": 1, "largest": True}
"""What is trained beside each chosen network once an arm's epochs are chosen."""


@dataclass(frozen=True)
class Pair:
    """A source and a target: what they change over the preset digits, and the lengths that each start may have."""

    changes: Tree
    lengths: dict[str, tuple[int, ...]]
    shares_classes: bool

    @property
    def starts(self) -> tuple[str, ...]:
        """The ways to begin; where source and target share classes, all rows together are a rival."""
        return (SCRATCH, HANDED, JOINT) if self.shares_classes else (SCRATCH, HANDED)


PAIRS: dict[str, Pair] = {
    "digits": Pair(
        {"search": {"max_macs": None}}, {SCRATCH: (60, 120, 240), HANDED: (12, 24, 48), JOINT: (15, 30)}, True
    ),
    "CIFAR-10 halves": Pair(CIFAR, {SCRATCH: (24, 48, 96), HANDED: (6, 12, 24), JOINT: (6, 12)}, True),
    "CIFAR-100 to CIFAR-10": Pair(
        merged(CIFAR, {"source": {"dataset": "cifar100", "root": "cifar100", "share": 0.5}}),
        {SCRATCH: (24, 48, 96), HANDED: (12, 24, 48)},
        False,
    ),
}
"""The pairs of the page. Where rows of both are trained on together there are several times as many in an epoch."""


@dataclass(frozen=True)
class Cell:
    """One training: how it begins, its loss, epochs and seed; `alone` without references, to choose the epochs."""

    start: str
    loss: str
    epochs: int
    seed: int
    alone: bool = False

    @property
    def name(self) -> str:
        """The cell's name as a file may have it."""
        words = f"{self.start} {self.loss} {self.epochs} {self.seed}{' alone' * self.alone}"
        return "-".join(words.replace(",", "").replace("-", " ").split())

    @property
    def retrain(self) -> Tree:
        """What the cell changes in `retrain`."""
        recipe = {"epochs": self.epochs}
        start: Tree = {"init": "scratch", **recipe}
        if self.start == HANDED:
            start = {"init": "handed", "finetune": recipe}
        return merged(LOSSES[self.loss], {**start, "references": False if self.alone else REFERENCES})


@dataclass
class Bench:
    """One pair's directory: the steps before `retrain` once per seed, the cells, and their scores."""

    place: Place
    pair: Pair
    _judge: list[Judge] = field(default_factory=list)

    @property
    def judge(self) -> Judge:
        """The validation and test rows, read once."""
        if not self._judge:
            self._judge.append(Judge(self.place))
        return self._judge[0]

    def searched(self, seed: int) -> dict[str, Path]:
        """Return where a seed's architecture and its supernet lie, made now or in an earlier call."""
        folder = self.place.root / "searched" / str(seed)
        moved = {name: folder / Path(PATHS[name]).name for name in ("search", "architecture", "handed")}
        if not moved["handed"].exists():
            adapted = self.place.adapted("head", {}, seed, self.place.supernet(seed))
            self.place.step("search", self.place.params(seed, retrain={"init": "handed"}), adapted=adapted, **moved)
        return {name: moved[name] for name in ("architecture", "handed")}

    def scored(self, cell: Cell) -> Tree:
        """Return each network's balanced accuracy on the validation and on the test rows, and the cell's seconds."""
        return self.place.kept(f"cell-{cell.name}", lambda: self._train(cell))  # type: ignore[no-any-return]

    def _train(self, cell: Cell) -> Tree:
        folder = self.place.root / "cells" / cell.name
        names = ("final", "references", "retrain_losses", "cost")
        moved = {name: folder / Path(PATHS[name]).name for name in names} | self.searched(cell.seed)
        if cell.start == JOINT:
            moved |= joined(self.place, self.place.root / "joined")
        self.place.step("retrain", self.place.params(cell.seed, retrain=cell.retrain), **moved)
        spent = json.loads(cost_details(moved["cost"]).read_text())["steps"]["retrain"]
        return {**self.judge.scores(moved["final"], moved["references"]), "seconds": spent["seconds"]}

    def length(self, start: str, loss: str, seeds: int) -> int:
        """Return the epochs at which an arm's chosen network is best on the validation rows, on the mean of seeds."""

        def total(epochs: int) -> float:
            cells = [self.scored(Cell(start, loss, epochs, seed, alone=True)) for seed in range(seeds)]
            return sum(cell["validation"]["final"] for cell in cells)

        best = {epochs: total(epochs) for epochs in self.pair.lengths[start]}
        return max(best, key=lambda epochs: (best[epochs], -epochs))

    def arms(self) -> Iterator[tuple[str, str]]:
        """Yield each way to begin with each loss."""
        for start in self.pair.starts:
            for loss in LOSSES:
                yield start, loss

    def measured(self, seeds: int, tuning: int) -> Tree:
        """Return each arm's length and the scores of its seeds, and what the steps before them took."""
        found: Tree = {"arms": []}
        for start, loss in self.arms():
            epochs = self.length(start, loss, tuning)
            cells = [self.scored(Cell(start, loss, epochs, seed)) for seed in range(seeds)]
            found["arms"].append({"start": start, "loss": loss, "epochs": epochs, "cells": cells})
        before = json.loads(cost_details(self.place.root / PATHS["cost"]).read_text())["steps"]
        found["before"] = {step: before[step]["seconds"] for step in ("supernet", "adapt", "search")}
        found["processor"], found["threads"] = before["supernet"]["processor"], self.place.params().runtime.threads
        found["rows"] = {"validation": len(self.judge.validation), "test": len(self.judge.test)}
        return found


def bench(work: Path, name: str, data: Path, changes: Tree | None = None) -> Bench:
    """Return the directory of a pair, its data linked into it, and the steps before the supernet run."""
    pair, archive = PAIRS[name], data.resolve() / "cifar100.npz"
    every = merged(pair.changes, changes or {})
    if every.get("source", {}).get("dataset") == "cifar100" and archive.is_file():
        every = merged(every, {"source": {"dataset": "npz"}})
    place = Place(work / name.replace(" ", "-"), "digits", every)
    for section in (place.params().source, place.params().target):
        folder = place.root / section.root
        if section.dataset == "digits" or any(folder.iterdir()):
            continue
        if section.dataset == "npz":
            (folder / archive.name).symlink_to(archive)
        else:
            folder.rmdir()
            folder.symlink_to(data.resolve(), target_is_directory=True)
    place.prepare()
    return Bench(place, pair)


def main() -> int:
    """Measure what is missing and write the page."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Measure what is missing, and write and return the page."""
    if options.seeds < 2:
        raise UserError(f"--seeds {options.seeds}: expected at least 2, one has no interval")
    if not 1 <= options.tuning <= options.seeds:
        raise UserError(f"--tuning {options.tuning}: expected from 1 to {options.seeds}, the number of seeds")
    work = options.work.resolve()
    found: dict[str, Any] = {
        name: bench(work, name, options.data).measured(options.seeds, options.tuning) for name in options.on
    }
    from inheritance_page import page

    content = page(options.seeds, options.tuning, found)
    page_record.write_page(options.output, content, "make inheritance")
    return content


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".imbnas/inheritance"), help="where everything goes")
    parser.add_argument("--output", type=Path, default=Path("docs/results/inheritance.md"))
    parser.add_argument("--data", type=Path, default=Path("datasets"), help="where CIFAR-10 and CIFAR-100 are")
    parser.add_argument("--on", nargs="+", choices=PAIRS, default=list(PAIRS), metavar="PAIR", help="all by default")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each arm, its supernet included")
    parser.add_argument("--tuning", type=int, default=2, help="seeds whose validation rows choose the epochs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
