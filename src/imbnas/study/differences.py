"""The differences of a study: of each cell from its partner, and over the seeds with intervals and p values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbnas.errors import UserError
from imbnas.files import TABLE_LIMIT, check_regular
from imbnas.longtail.difference import Difference, corrected
from imbnas.longtail.intervals import differences, over_seeds
from imbnas.longtail.resampling import Resampled, resample
from imbnas.longtail.shots import Rule, make_rule
from imbnas.network_names import FINAL, is_random
from imbnas.seeds import derive
from imbnas.study.plan import label
from imbnas.study.results import Grid, groups

PAIRED = ("balanced_accuracy", "accuracy", "many", "medium", "few")
"""Scores whose differences are measured."""
SAME_FOR_ALL = ("balanced_accuracy", "accuracy")
"""Those of them that mean the same for two long tails."""
FOUND = ("mean", "std", "low", "high", "p", "p_holm", "covers")
EQUIVALENT = ("margin", "p_equivalent", "p_equivalent_holm")


class Answers:
    """The networks' answers on the test rows, read and resampled once for each cell."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._known: dict[int, tuple[dict[str, Any], pd.DataFrame]] = {}
        self._resampled: dict[int, dict[str, Resampled]] = {}

    def read(self, cell: int) -> tuple[dict[str, Any], pd.DataFrame]:
        """Return a cell's details, and the chosen network's answers, a row per test row."""
        details, table = self._all(cell)
        return details, _of(table, FINAL)

    def _all(self, cell: int) -> tuple[dict[str, Any], pd.DataFrame]:
        if cell not in self._known:
            path = self._grid.file("predictions", cell)
            try:
                check_regular(path, TABLE_LIMIT)
                found = pd.read_parquet(path)
                columns = ["network", "row", "label", "predicted", *(name for name in ("group",) if name in found)]
                table = found[columns]
            except (OSError, ValueError, KeyError) as error:
                raise UserError(
                    f"{path}: not a table of answers ({str(error).splitlines()[0]}), run evaluate"
                ) from None
            self._known[cell] = self._grid.details(cell), table
        return self._known[cell]

    def rows(self, cell: int) -> str:
        """Return the digest of a cell's test rows."""
        digest: str = self.read(cell)[0]["digests"]["target_test"]
        return digest

    def comparable(self, cell: int, other: int) -> bool:
        """Return whether two cells were measured on the same test rows."""
        if self.rows(cell) != self.rows(other):
            return False
        if not np.array_equal(self.read(cell)[1][["row", "label"]], self.read(other)[1][["row", "label"]]):
            raise UserError(
                f"{self._grid.file('predictions', cell)}: other test rows than its digest says, run evaluate"
            )
        return True

    def resampled(self, cell: int) -> Resampled:
        """Return a cell's scores and those on resamples, which are the same for all cells of the same test rows."""
        return self._networks(cell)[FINAL]

    def random(self, cell: int) -> list[Resampled]:
        """Return the same for the cell's random networks."""
        return [one for name, one in self._networks(cell).items() if is_random(name)]

    def _networks(self, cell: int) -> dict[str, Resampled]:
        if cell not in self._resampled:
            details, table = self._all(cell)
            names = [name for name in dict.fromkeys(table["network"]) if name == FINAL or is_random(name)]
            parts = [_of(table, name) for name in names]
            runs = resample(
                parts[names.index(FINAL)]["label"].to_numpy(),
                [part["predicted"].to_numpy() for part in parts],
                np.asarray(details["imbalance"]["counts"]),
                _rule(details["shots"]),
                # One number for all cells, which are compared draw by draw.
                resamples=self.read(self._grid.finished[0])[0]["confidence"]["resamples"],
                seed=derive(0, "study", "bootstrap", self.rows(cell)),
                groups=parts[0]["group"].to_numpy() if "group" in table else None,
            )
            self._resampled[cell] = dict(zip(names, runs, strict=True))
        return self._resampled[cell]

    def scores(self, cell: int, other: int) -> list[str]:
        """Return the scores that mean the same in both cells."""
        (details, _), (base, _) = self.read(cell), self.read(other)
        same = details["imbalance"]["counts"] == base["imbalance"]["counts"] and details["shots"] == base["shots"]
        return [name for name in (PAIRED if same else SAME_FOR_ALL) if name in self.resampled(cell).values]

    def level(self, cell: int) -> float:
        """Return the level of a cell's intervals."""
        level: float = self.read(cell)[0]["confidence"]["level"]
        return level


def _of(table: pd.DataFrame, network: str) -> pd.DataFrame:
    """Return a network's answers in the order of the test rows."""
    return table[table["network"] == network].sort_values("row", kind="stable").reset_index(drop=True)


def pairs(grid: Grid, answers: Answers) -> pd.DataFrame:
    """Return for each cell, axis and score the difference from the axis's first value, and the test rows' interval.

    Both cells must have been measured on the same test rows; where an axis changes those, it has no rows. Shot groups
    are compared only between cells with the same long tail. A row holds the cell, its axes, axis, against, score,
    difference, low and high, and `partner`, the other cell.
    """
    finished, rows = set(grid.finished), []
    for axis in grid.settings:
        for cell in grid.finished:
            other = grid.partner(cell, axis)
            if other is None or other not in finished or not answers.comparable(cell, other):
                continue
            both = [answers.resampled(cell)], [answers.resampled(other)]
            found = differences(*both, answers.level(cell), "fixed")
            for name in answers.scores(cell, other):
                one, against = found[name], label(grid.axes[axis][0])
                value = {"difference": one.value, "low": one.low, "high": one.high, "partner": other}
                rows.append(
                    {"cell": cell, **grid.shown(cell), "axis": axis, "against": against, "score": name, **value}
                )
    columns = ["cell", *grid.axes, "axis", "against", "score", "difference", "low", "high", "partner"]
    return pd.DataFrame(rows, columns=columns)


def over_runs(grid: Grid, answers: Answers, table: pd.DataFrame, margin: float | None = None) -> pd.DataFrame:
    """Return the differences of `pairs` over the seeds: mean, deviation, interval and p values.

    `covers` says whose noise the interval holds: `seeds and rows`; `seeds` where each run has test rows of its own, so
    that theirs is in the runs' differences already; `rows` of a single run. P values are corrected for all comparisons
    of one axis by one score. A margin adds the test that a difference is smaller.
    """
    rows, made = [], []
    for key, group in groups(table, [*grid.settings, "axis", "against", "score"]):
        spread = over_seeds([{"difference": value} for value in group["difference"]])["difference"]
        rows.append({**key, "runs": len(group), "std": spread["std"], "margin": margin})
        cells = [(int(row["cell"]), int(row["partner"])) for _, row in group.iterrows()]
        made.append(_over_runs(answers, cells, key["score"], margin))
    names = ("low", "high", "p", "p_holm", "covers", "p_equivalent", "p_equivalent_holm")
    for row, one in zip(rows, _corrected(rows, made), strict=True):
        row |= {"mean": one.value, **{name: getattr(one, name) for name in names}}
    shown = [*FOUND, *(EQUIVALENT if margin is not None else ())]
    return pd.DataFrame(rows, columns=[*grid.settings, "axis", "against", "score", "runs", *shown])


def _over_runs(answers: Answers, cells: Sequence[tuple[int, int]], score: str, margin: float | None) -> Difference:
    """Return the mean difference of some pairs of cells."""
    digests = [answers.rows(cell) for cell, _ in cells]
    own_rows = len(set(digests)) == len(digests)
    first, second = ([answers.resampled(pair[side]) for pair in cells] for side in (0, 1))
    return differences(first, second, answers.level(cells[0][0]), "paired", margin, own_rows)[score]


def _corrected(rows: Sequence[Mapping[str, Any]], made: Sequence[Difference]) -> list[Difference]:
    """Return the differences with p values corrected for all of one axis and score."""
    families: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        families.setdefault((row["axis"], row["score"]), []).append(place)
    found = list(made)
    for places in families.values():
        for place, one in zip(places, corrected([made[place] for place in places]), strict=True):
            found[place] = one
    return found


def _rule(shots: Mapping[str, Any]) -> Rule:
    """Return the rule of shot groups that details.json describes."""
    limits = shots["thresholds"] or {"many": 0, "few": 0}
    return make_rule(shots["rule"], limits["many"], limits["few"])
