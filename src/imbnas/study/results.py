"""The tables of a study: a row per cell and network, mean and standard deviation over seeds, and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbnas.errors import UserError
from imbnas.files import TABLE_LIMIT, check_regular, read_json
from imbnas.longtail.intervals import over_seeds, paired_bootstrap
from imbnas.longtail.shots import Rule, make_rule
from imbnas.seeds import derive
from imbnas.study.plan import Plan, label

SCORES = ("balanced_accuracy", "accuracy", "many", "medium", "few", "macro_f1", "ece")
"""The headline scores, those of results/metrics.json."""
PAIRED = ("balanced_accuracy", "accuracy", "many", "medium", "few")
"""Scores whose differences are measured."""
SAME_FOR_ALL = ("balanced_accuracy", "accuracy")
"""Those of them that mean the same for two long tails."""


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


def pairs(grid: Grid) -> pd.DataFrame:
    """Return for each cell, axis and score the difference from the axis's first value, with its paired interval.

    Both cells must have been measured on the same test rows; where an axis changes those, it has no rows. Shot groups
    are compared only between cells with the same long tail. A row holds the cell, its axes, axis, against, score,
    difference, low and high.
    """
    finished, rows = set(grid.finished), []
    answers = _Answers(grid)
    for axis in grid.settings:
        for cell in grid.finished:
            other = grid.partner(cell, axis)
            if other is None or other not in finished or not answers.comparable(cell, other):
                continue
            for name, found in answers.differences(cell, other).items():
                value = {"difference": found.value, "low": found.low, "high": found.high}
                against = label(grid.axes[axis][0])
                rows.append(
                    {"cell": cell, **grid.shown(cell), "axis": axis, "against": against, "score": name, **value}
                )
    columns = ["cell", *grid.axes, "axis", "against", "score", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def differences(grid: Grid, table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and sample standard deviation of the paired differences of `pairs` over the seeds."""
    rows = []
    for key, group in groups(table, [*grid.settings, "axis", "against", "score"]):
        found = over_seeds([{"difference": value} for value in group["difference"]])["difference"]
        rows.append({**key, "runs": len(group), "mean": found["mean"], "std": found["std"]})
    return pd.DataFrame(rows, columns=[*grid.settings, "axis", "against", "score", "runs", "mean", "std"])


class _Answers:
    """The chosen networks' answers on the test rows, read once for each cell."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._known: dict[int, tuple[dict[str, Any], pd.DataFrame]] = {}

    def read(self, cell: int) -> tuple[dict[str, Any], pd.DataFrame]:
        if cell not in self._known:
            path = self._grid.file("predictions", cell)
            try:
                check_regular(path, TABLE_LIMIT)
                table = pd.read_parquet(path, columns=["network", "row", "label", "predicted"])
            except (OSError, ValueError, KeyError) as error:
                raise UserError(
                    f"{path}: not a table of answers ({str(error).splitlines()[0]}), run evaluate"
                ) from None
            final = table[table["network"] == "final"].sort_values("row", kind="stable").reset_index(drop=True)
            self._known[cell] = self._grid.details(cell), final
        return self._known[cell]

    def comparable(self, cell: int, other: int) -> bool:
        """Say whether two cells were measured on the same test rows."""
        (a, _), (b, _) = self.read(cell), self.read(other)
        return bool(a["digests"]["target_test"] == b["digests"]["target_test"])

    def differences(self, cell: int, other: int) -> dict[str, Any]:
        """Return the differences of the scores that mean the same in both cells."""
        (details, a), (base, b) = self.read(cell), self.read(other)
        if not np.array_equal(a[["row", "label"]], b[["row", "label"]]):
            raise UserError(
                f"{self._grid.file('predictions', cell)}: other test rows than its digest says, run evaluate"
            )
        counts = details["imbalance"]["counts"]
        found = paired_bootstrap(
            a["label"].to_numpy(),
            a["predicted"].to_numpy(),
            b["predicted"].to_numpy(),
            np.asarray(counts),
            _rule(details["shots"]),
            resamples=details["confidence"]["resamples"],
            level=details["confidence"]["level"],
            seed=derive(details["seed"], "study", "bootstrap"),
        )
        same = counts == base["imbalance"]["counts"] and details["shots"] == base["shots"]
        return {name: found[name] for name in (PAIRED if same else SAME_FOR_ALL) if name in found}


def _rule(shots: Mapping[str, Any]) -> Rule:
    """Return the rule of shot groups that details.json describes."""
    limits = shots["thresholds"] or {"many": 0, "few": 0}
    return make_rule(shots["rule"], limits["many"], limits["few"])


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
