"""From what `seeds_results.py` has measured to its page: means over searches, differences, and the rule's verdict."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
from seeds_methods import DRAWS, MACS, RANDOM, SINGLE, Tree

from imbnas import page_record
from imbnas.longtail.student import Estimate, holm, mean_of_runs
from imbnas.params.approximate import EnergyParams
from imbnas.run.context import processor_model
from imbnas.truth.places import Table

if TYPE_CHECKING:
    from seeds_results import Experiment

LEVEL = 0.95
PICOJOULES_OF_NANO = 1000.0

PAGE = """# Searches seed by seed: {name}, {condition}

`make seeds-results` at commit {commit}, {processor}. Every method searches with {seeds} seeds on the rows of
`tables/{name}.yaml`, {search} epochs where it descends, on supernets of {supernet} epochs where it has one; each of the
{cells} distinct cells is trained alone with {trainings} seeds by the table's recipe, in float32
(`tables/{own}.parquet`, of which all methods share the rows). `{single}` has no cell: its network is judged as the
search leaves it, one for each seed. `{random}` are {draws} uniform draws for each seed. The rule was decided
beforehand: docs/decisions/0030.

{table}

Balanced accuracy on the test rows after the last epoch, in percent; few-shot is the mean recall of the rarest third of
the classes, adjusted the balanced accuracy after post-hoc logit adjustment. Differences are paired by the seed of the
search. ± is the half-width of a 95 % interval: Student's t over the searches' seeds, with the variance that the
trainings of the cells add, {noise:.2f} points for one training; cells that two methods share have none in their
difference. The test rows are taken as they are. p is corrected by Holm's method for the {family} methods that are
compared with the same control. Seconds are those of supernet, adaptation and search on the wall, on a machine that
other programs may have shared; a shared supernet counts in full, and single-stage
seconds hold the final training. Energy is that of the arithmetic for one image.

## What the rule says

{verdict}

## Cells trained under the multiplier that they were searched with

{under}

One training of each search's cell, against the mean of the same cell's rows in float32. Energy as a share of the same
network in float32, and in exact 8 bits.
"""


class Measured:
    """Scores of methods: each search's value is a weighted mean over cells, or a network's own."""

    def __init__(self, found: dict[str, list[Tree]], rows: list[Tree]) -> None:
        """Take each method's searches, seed by seed, and the rows of the cells' trainings."""
        self.found, self.rows = found, rows
        self.trainings = len({row["seed"] for row in rows})

    def by_cell(self, column: str) -> dict[str, np.ndarray]:
        """Return a column of all trainings of each cell."""
        cells: dict[str, list[float]] = {}
        for row in self.rows:
            cells.setdefault(row["architecture"], []).append(row[column])
        return {cell: np.array(values, dtype=float) for cell, values in cells.items()}

    def variance(self, column: str) -> float:
        """Return the variance of one training around its cell's mean, over all cells."""
        return float(np.mean([values.var(ddof=1) for values in self.by_cell(column).values()]))

    def values(self, method: str, column: str) -> np.ndarray:
        """Return what each search of a method comes to."""
        means = {cell: float(values.mean()) for cell, values in self.by_cell(column).items()}
        return np.array(
            [mean(means[cell] for cell in one["cells"]) if one["cells"] else one[column] for one in self.found[method]]
        )

    def weights(self, method: str) -> dict[str, float]:
        """Return the share that each cell has in a method's mean."""
        searches = self.found[method]
        shares: dict[str, float] = {}
        for one in searches:
            for cell in one["cells"]:
                shares[cell] = shares.get(cell, 0.0) + 1.0 / len(one["cells"]) / len(searches)
        return shares

    def mean(self, method: str, column: str) -> Estimate:
        """Return a method's mean, with its error over searches and over trainings of cells."""
        return mean_of_runs(self.values(method, column), self.noise(column, self.weights(method)))

    def gain(self, method: str, control: str, column: str = "test") -> Estimate:
        """Return a method's mean minus a control's, paired by the seed of the search."""
        first, second = self.weights(method), self.weights(control)
        shares = {cell: first.get(cell, 0.0) - second.get(cell, 0.0) for cell in {**first, **second}}
        return mean_of_runs(self.values(method, column) - self.values(control, column), self.noise(column, shares))

    def gains(self, control: str) -> dict[str, tuple[Estimate, float]]:
        """Return all other methods' gains over a control, with p values corrected for their number."""
        names = [name for name in self.found if name != control]
        found = [self.gain(name, control) for name in names]
        return dict(zip(names, zip(found, holm([float(one.p()) for one in found]), strict=True), strict=True))

    def noise(self, column: str, shares: dict[str, float]) -> float:
        """Return the variance that trainings of cells with these shares add to a mean."""
        return sum(share**2 for share in shares.values()) * self.variance(column) / self.trainings

    def energy(self, method: str) -> float:
        """Return a method's mean nanojoules in float32, or its networks' own."""
        float32 = EnergyParams().float32
        macs = {row["architecture"]: row["macs"] for row in self.rows}
        factor = (float32.multiply + float32.add) / PICOJOULES_OF_NANO
        return mean(
            mean(factor * macs[cell] for cell in one["cells"]) if one["cells"] else one["energy"]
            for one in self.found[method]
        )


def better(one: tuple[Estimate, float]) -> bool:
    """Say whether a gain is shown: positive, and p after the correction below 0.05."""
    return float(one[0].value) > 0.0 and one[1] < 1.0 - LEVEL


def verdict(measured: Measured) -> str:
    """Return what the rule of decision 30 says."""
    over_random, over_macs = measured.gains(RANDOM), measured.gains(MACS)
    searches = [name for name in measured.found if name not in (RANDOM, MACS)]
    lines = [
        f"Better than random cells: {_listed([name for name in over_random if better(over_random[name])])}.",
        f"Better than counting MACs: {_listed([name for name in searches if better(over_macs[name])])}.",
    ]
    both = [name for name in searches if better(over_random[name]) and better(over_macs[name])]
    lines.append(f"Recommended at this size, since better than both: {_listed(both)}.")
    return "\n".join(f"- {line}" for line in lines)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def points(one: Estimate) -> str:
    """Return an estimate with the half-width of its interval, in points."""
    low, high = one.ends(LEVEL)
    return f"{100.0 * float(one.value):.2f} ± {50.0 * float(high - low):.2f}"


def table_of(measured: Measured) -> str:
    """Return the table of methods."""
    titles = ["search", "cells", "balanced accuracy", "minus random", "p", "minus macs", "p"]
    titles += ["few-shot", "adjusted", "search seconds", "energy, nJ"]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    compared = [measured.gains(RANDOM), measured.gains(MACS)]
    few = all(row["few"] is not None for row in measured.rows)
    for name, searches in measured.found.items():
        cells = [name, str(len({cell for one in searches for cell in one["cells"]}) or "-")]
        cells.append(points(measured.mean(name, "test")))
        for gains in compared:
            cells += [points(gains[name][0]), f"{gains[name][1]:.3f}"] if name in gains else ["", ""]
        cells += [points(measured.mean(name, "few")) if few else "", points(measured.mean(name, "adjusted_test"))]
        cells += [f"{mean(one['seconds'] for one in searches):.0f}", f"{measured.energy(name):,.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def under_table(measured: Measured, under: dict[str, list[Tree]]) -> str:
    """Return the table of trainings under a multiplier, beside the same cells in float32."""
    titles = ["search", "balanced accuracy", "minus float32", "energy, nJ", "of float32", "of exact 8 bits"]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for name, runs in under.items():
        own = np.array([run["test"] for run in runs])
        noise = measured.noise("test", measured.weights(name))
        cells = [name, points(mean_of_runs(own)), points(mean_of_runs(own - measured.values(name, "test"), noise))]
        cells += [f"{mean(run['energy'] for run in runs):,.0f}"]
        cells += [f"{mean(run[share] for run in runs):.3f}" for share in ("of_float32", "of_exact8")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_page(path: Path, experiment: Experiment, own: Table, found: Tree) -> None:
    """Write the page."""
    measured = Measured(found["found"], found["rows"])
    commit = page_record.commit()
    content = PAGE.format(
        name=experiment.first.name,
        own=own.name,
        condition=experiment.condition,
        commit=commit,
        processor=processor_model(),
        seeds=experiment.seeds,
        trainings=experiment.trainings,
        search=experiment.epochs.search,
        supernet=experiment.epochs.supernet,
        cells=len(own.spec.cells),
        single=SINGLE,
        random=RANDOM,
        draws=DRAWS,
        family=len(measured.found) - 1,
        noise=100.0 * measured.variance("test") ** 0.5,
        table=table_of(measured),
        verdict=verdict(measured),
        under=under_table(measured, found["under"]),
    )
    page_record.write_page(path, content, "make seeds-results", inputs=[own.file.with_suffix(".parquet")])
