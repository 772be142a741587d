"""A comparison with chance: the choices of a study beside random networks of their cost, over the seeds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from imbnas.longtail.chance import against_random, beaten, mean_of_networks
from imbnas.longtail.difference import Difference
from imbnas.longtail.intervals import differences, over_seeds
from imbnas.study.differences import PAIRED, Answers
from imbnas.study.results import Grid, groups

FOUND = ("runs", "networks", "beaten", "mean", "std", "low", "high", "p", "covers")


def against_chance(grid: Grid, answers: Answers) -> pd.DataFrame:
    """Return for each setting and score the chosen network minus the mean of its random references, over the seeds.

    A seed's choice is paired with its own random networks; the interval is Student's t of the seeds' differences with
    the variance of the test rows. That of a single seed is one of prediction, see `longtail.chance`. `networks` counts
    the random networks of all seeds and `beaten` those below their seed's chosen one by this score. Cells without
    random references are left out.
    """
    cells = pd.DataFrame([{"cell": cell, **grid.shown(cell)} for cell in grid.finished if answers.random(cell)])
    rows: list[dict[str, Any]] = []
    # Without settings all cells are one group.
    grouped = groups(cells, grid.settings) if grid.settings else iter([({}, cells)] if len(cells) else [])
    for key, group in grouped:
        members = [int(cell) for cell in group["cell"]]
        for score in PAIRED:
            if all(score in answers.resampled(cell).values for cell in members):
                rows.append({**key, "score": score, **_row(answers, members, score)})
    return pd.DataFrame(rows, columns=[*grid.settings, "score", *FOUND])


def _row(answers: Answers, cells: list[int], score: str) -> dict[str, Any]:
    chosen = [answers.resampled(cell).values[score] for cell in cells]
    others = [[one.values[score] for one in answers.random(cell)] for cell in cells]
    apart = [value - sum(random) / len(random) for value, random in zip(chosen, others, strict=True)]
    one = _difference(answers, cells)[score]
    return {
        "runs": len(cells),
        "networks": sum(map(len, others)),
        "beaten": sum(beaten(value, random) for value, random in zip(chosen, others, strict=True)),
        "mean": one.value,
        "std": over_seeds([{"difference": value} for value in apart])["difference"]["std"],
        **{name: getattr(one, name) for name in ("low", "high", "p", "covers")},
    }


def _difference(answers: Answers, cells: list[int]) -> dict[str, Difference]:
    level, first = answers.level(cells[0]), cells[0]
    if len(cells) == 1:
        return against_random(answers.resampled(first), answers.random(first), level)
    digests = [answers.rows(cell) for cell in cells]
    chosen = [answers.resampled(cell) for cell in cells]
    means = [mean_of_networks(answers.random(cell)) for cell in cells]
    return differences(chosen, means, level, "paired", own_rows=len(set(digests)) == len(digests))
