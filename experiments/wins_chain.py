"""The chains of `wins.py`: CIFAR-10-LT on 16 pixels with CIFAR-100 as the source, and the trainings that judge them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from inheritance import CIFAR
from longtail import merged
from study_jobs import Jobs, Tree, work
from trained_networks import Trained, answered

from imbnas.files import read_json
from imbnas.network_names import FINAL, LARGEST, is_random
from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.params.truth import text_of

NAME = "experiments/wins.py"
"""Where parameters come from, for messages."""
RIVALS = ("params", "synflow", "jacobian")
"""Free choices whose cells are trained beside; `macs` takes the reference `largest`."""
MACS = "macs"
CHAIN: Tree = merged(
    {name: CIFAR[name] for name in ("space", "target")},
    {
        "runtime": {"device": "cpu", "threads": 1, "workers": 0},
        "source": {"dataset": "npz", "root": "cifar100.npz", "share": 0.5},
        "target": {"root": "cifar10", "validation": {"per_class": 250}},
        "imbalance": {"profile": "exponential", "ratio": 100.0, "n_max": 2000},
        "supernet": {"batch_size": 128, "optimizer": {"lr": 0.1, "weight_decay": 5.0e-4}},
        "adapt": {"head": {"epochs": 12, "batch_size": 128}},
        "search": {"max_macs": None},
        "retrain": {"epochs": 24, "batch_size": 128, "optimizer": {"lr": 0.1, "weight_decay": 5.0e-4}},
        "evaluate": {"shots": "thirds"},
    },
)
"""The default chain on small images: what is not named is the package's default, with the truth table's batches."""


def chain(changes: Tree) -> Tree:
    """Return the chain's parameters with some changes: over the shipped ones, but for the axes of their study."""
    shipped = {name: section for name, section in presets.params("digits").tree().items() if name != "study"}
    return merged(merged(shipped, CHAIN), changes)


@dataclass(frozen=True)
class Setting:
    """How often, and how large: seeds, limits on MACs, random references, finalists, and epochs of the supernet."""

    seeds: int = 10
    limits: tuple[str, ...] = ("0.4x", "0.7x")
    random: int = 4
    finalists: int = 4
    supernet: int = 8


class Wins:
    """The chains below a directory, as three studies that share jobs."""

    def __init__(self, root: Path, setting: Setting, changes: Tree | None = None) -> None:
        """Take the project's directory with its raw data, what is measured, and changes of the chain."""
        self.root, self.setting = root, setting
        self._read: dict[Path, dict[str, str]] = {}
        self._tree = merged(chain({"supernet": {"epochs": setting.supernet}}), changes or {})
        references: Tree = {"retrain": {"references": {"random": setting.random, "largest": True}}}
        none: Tree = {"retrain": {"references": {"random": 0, "largest": False}}}
        self.searches = self._jobs([{"max_macs": limit} for limit in setting.limits], references)
        rivals = [{"method": name, "max_macs": limit} for name in RIVALS for limit in setting.limits]
        self.rivals = self._jobs(rivals, none)

    def _jobs(self, searches: list[Tree], changes: Tree) -> Jobs:
        axes = {"search": searches, "seed": list(range(self.setting.seeds))}
        return Jobs(self.root, self.params(merged(changes, {"study": {"axes": axes}})), NAME)

    def params(self, changes: Tree) -> Params:
        """Return the chain's parameters with some changes."""
        return parse(merged(self._tree, changes), NAME)

    def tasks(self) -> list[tuple[Jobs, int, str]]:
        """Return what must run before anything is compared: the chains, and the searches of the free choices."""
        every = [(self.searches, cell, "evaluate") for cell in self._by_seed(self.searches)]
        return every + [(self.rivals, cell, "search") for cell in self._by_seed(self.rivals)]

    def run(self) -> None:
        """Run what is missing, seed by seed; then the trainings of cells that no chain of their seed has trained."""
        work(self.tasks())
        self.known.clear()
        self.final_cells.clear()
        for cell in range(len(self.searches.cells)):
            self._note(self.searches, cell)
        lacking = [cell for cell in self._by_seed(self.rivals) if not self._knows(self.rivals, cell)]
        work([(self.rivals, cell, "evaluate") for cell in lacking])
        for cell in lacking:
            self._note(self.rivals, cell)
        self.final_cells |= {limit: self._finalists(limit) for limit in self.setting.limits}
        finals = self._finals()
        wanted = [
            cell
            for cell, found in enumerate(finals.levels)
            if (found["seed"], _cell(found["search"])) not in self.known
        ]
        work([(finals, cell, "evaluate") for cell in wanted])
        for cell in wanted:
            self._note(finals, cell)

    @cached_property
    def known(self) -> dict[tuple[int, str], Trained]:
        """What was trained, by seed and cell: the same recipe and rows, whichever chain it was for."""
        return {}

    @cached_property
    def final_cells(self) -> dict[str, list[str]]:
        """The cells that stand for the best, by the limit: fixed before they are trained with every seed."""
        return {}

    def chosen(self, limit: str, seed: int) -> Trained:
        """Return the chain's chosen network."""
        return self._networks(limit, seed)[FINAL]

    def references(self, limit: str, seed: int) -> list[Trained]:
        """Return the random networks of the chosen one's cost."""
        return [one for name, one in self._networks(limit, seed).items() if is_random(name)]

    def rival(self, name: str, limit: str, seed: int) -> Trained:
        """Return the network of a free choice."""
        if name == MACS:
            return self._networks(limit, seed)[LARGEST]
        number = self._number(self.rivals, {"method": name, "max_macs": limit}, seed)
        return self.known[seed, self._architecture(self.rivals, number)]

    def best(self, limit: str, seed: int) -> Trained:
        """Return this seed's training of the limit's finalist that has the best mean over the other seeds."""
        others = [other for other in range(self.setting.seeds) if other != seed]
        means = {cell: np.mean([self.known[k, cell].score for k in others]) for cell in self.final_cells[limit]}
        return self.known[seed, max(means, key=lambda cell: means[cell])]

    def _finalists(self, limit: str) -> list[str]:
        """Return the cells that look best on the test rows among all that chains of this limit have trained.

        A mean over few trainings is drawn towards the mean of all cells, by what trainings of one cell differ.
        """
        scores = self._scores(limit)
        means = {cell: float(np.mean(own)) for cell, own in scores.items()}
        grand, within = float(np.mean(list(means.values()))), self.within**2
        total = float(np.var(list(means.values())))
        between = max(0.0, total - within * float(np.mean([1 / len(own) for own in scores.values()])))

        def expected(cell: str) -> float:
            trust = between / (between + within / len(scores[cell])) if between + within else 1.0
            return grand + trust * (means[cell] - grand)

        return sorted(scores, key=lambda cell: (-expected(cell), cell))[: self.setting.finalists]

    @property
    def within(self) -> float:
        """The standard deviation of a training of a cell around the cell's mean, over cells with several seeds."""
        by_cell: dict[str, list[float]] = {}
        for (_, cell), one in self.known.items():
            by_cell.setdefault(cell, []).append(one.score)
        several = [own for own in by_cell.values() if len(own) > 1]
        freedom = sum(len(own) - 1 for own in several)
        return float(np.sqrt(sum(np.var(own) * len(own) for own in several) / freedom)) if freedom else 0.0

    def _finals(self) -> Jobs:
        """Return the trainings of the finalists with every seed."""
        cells = list(dict.fromkeys(cell for own in self.final_cells.values() for cell in own))
        fixed = [{"method": "fixed", "architecture": [int(part) for part in cell.split("-")]} for cell in cells]
        return self._jobs(fixed, {"retrain": {"references": {"random": 0, "largest": False}}})

    def _scores(self, limit: str) -> dict[str, list[float]]:
        """Return the scores of each cell that chains of a limit have trained, of every seed that has it."""
        cells: set[str] = set()
        for seed in range(self.setting.seeds):
            cells |= {one.cell for one in self._networks(limit, seed).values()}
            cells |= {self.rival(name, limit, seed).cell for name in RIVALS}
        found: dict[str, list[float]] = {}
        for (_, cell), one in self.known.items():
            if cell in cells:
                found.setdefault(cell, []).append(one.score)
        return found

    def _networks(self, limit: str, seed: int) -> dict[str, Trained]:
        number = self._number(self.searches, {"max_macs": limit}, seed)
        return {name: self.known[seed, cell] for name, cell in self._cells(self.searches, number).items()}

    def _note(self, jobs: Jobs, cell: int) -> None:
        """Read a cell's networks; one that an earlier cell of the seed has trained counts as trained there."""
        seed = jobs.levels[cell]["seed"]
        for one in answered(jobs, cell).values():
            self.known.setdefault((seed, one.cell), one)

    def _cells(self, jobs: Jobs, cell: int) -> dict[str, str]:
        file = jobs.file(cell, "details")
        if file not in self._read:
            networks = read_json(file, "a cell's results")["networks"]
            self._read[file] = {name: text_of(tuple(one["architecture"])) for name, one in networks.items()}
        return self._read[file]

    def _knows(self, jobs: Jobs, cell: int) -> bool:
        return (jobs.levels[cell]["seed"], self._architecture(jobs, cell)) in self.known

    def _architecture(self, jobs: Jobs, cell: int) -> str:
        found = read_json(jobs.file(cell, "architecture"), "the output of `imbnas search`")
        return text_of(tuple(found["chosen"]["architecture"]))

    @staticmethod
    def _number(jobs: Jobs, search: Tree, seed: int) -> int:
        return jobs.levels.index({"search": search, "seed": seed})

    def _by_seed(self, jobs: Jobs) -> Iterable[int]:
        """Return a study's cells, seed by seed, so that what is there at any time is a whole comparison."""
        return sorted(range(len(jobs.cells)), key=lambda cell: (jobs.levels[cell]["seed"], cell))


def _cell(search: Tree) -> str:
    return text_of(tuple(search["architecture"]))
