"""The tables of a study's results: a row per cell and network, and mean and standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from imbnas.files import read_json
from imbnas.longtail.intervals import over_seeds
from imbnas.study.plan import Plan, label

SCORES = ("balanced_accuracy", "accuracy", "many", "medium", "few", "macro_f1", "ece")
"""The headline scores, those of results/metrics.json."""


@dataclass(frozen=True)
class Grid:
    """A study whose finished cells are to be collected."""

    plan: Plan
    levels: Sequence[Mapping[str, Any]]
    """Each cell's value of each axis."""
    axes: Mapping[str, Sequence[Any]]
    """The values of each axis."""
    finished: Sequence[int]
    """Numbers of the cells whose results are there."""
    root: Path
    """The project's directory."""

    @property
    def replicates(self) -> list[str]:
        """The axes over which means are taken: those named `seed`."""
        return [name for name in self.axes if name.split(".")[-1] == "seed"]

    @property
    def settings(self) -> list[str]:
        """The other axes."""
        return [name for name in self.axes if name not in self.replicates]

    def file(self, name: str, cell: int) -> Path:
        """Return where a file of the chain lies in a cell."""
        return self.root / self.plan.place(name, cell)

    def details(self, cell: int) -> dict[str, Any]:
        """Return a cell's details.json."""
        found: dict[str, Any] = read_json(self.file("details", cell), "a cell's results")
        return found

    def shown(self, cell: int) -> dict[str, Any]:
        """Return a cell's values of the axes as a table holds them: text, or a number where all values are numbers."""
        return {name: value if _numeric(self.axes[name]) else label(value) for name, value in self.levels[cell].items()}

    def partner(self, cell: int, axis: str) -> int | None:
        """Return the cell that differs only in having the axis's first value, None for that cell itself."""
        wanted = {**self.levels[cell], axis: self.axes[axis][0]}
        other = self.levels.index(wanted)
        return None if other == cell else other


def results(grid: Grid) -> pd.DataFrame:
    """Return a row per finished cell and network: axes, seed, scores with intervals, cost, digests."""
    rows = []
    for cell in grid.finished:
        details = grid.details(cell)
        for network, scores in details["networks"].items():
            rows.append(
                {
                    "cell": cell,
                    **grid.shown(cell),
                    "seed": details["seed"],
                    "network": network,
                    **_scores(scores),
                    **{key: scores[key] for key in ("macs", "params")},
                    "architecture": "-".join(map(str, scores["architecture"])),
                    "level": details["confidence"]["level"],
                    **{f"digest_{name}": digest for name, digest in sorted(details["digests"].items())},
                    **{f"job_{step}": digest for step, digest in grid.plan.cells[cell].items()},
                }
            )
    return pd.DataFrame(rows)


def summary(grid: Grid, table: pd.DataFrame) -> pd.DataFrame:
    """Return for each setting and network mean and sample standard deviation of each score over the seeds."""
    rows = []
    for key, group in groups(table, [*grid.settings, "network"]):
        runs = [{name: None if pd.isna(row[name]) else row[name] for name in SCORES} for _, row in group.iterrows()]
        found = over_seeds(runs)
        spread = {f"{name}_{part}": found[name][part] for name in SCORES for part in ("mean", "std")}
        rows.append({**key, "runs": len(runs), **spread})
    return pd.DataFrame(rows)


def _scores(scores: Mapping[str, Any]) -> dict[str, float | None]:
    """Return each score followed by the ends of its interval, where it has one."""
    row: dict[str, float | None] = {}
    for name in SCORES:
        low, high = scores["intervals"].get(name) or (None, None)
        row |= {name: scores[name], f"{name}_low": low, f"{name}_high": high}
    return row


def groups(table: pd.DataFrame, names: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the rows that agree in all `names`, in order of appearance."""
    if len(table):
        for key, group in table.groupby(names, sort=False, dropna=False):
            yield dict(zip(names, key, strict=True)), group


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
