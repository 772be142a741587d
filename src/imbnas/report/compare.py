"""Finished projects against each other: mean and spread over seeds, and differences on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imbnas.errors import UserError
from imbnas.longtail.difference import Difference, corrected
from imbnas.longtail.intervals import Seeds, differences, intervals, over_seeds
from imbnas.longtail.resampling import Resampled, resample
from imbnas.longtail.shots import make_rule
from imbnas.report.compared_runs import Run, grouped_runs
from imbnas.seeds import derive

_SEED = derive(0, "compare")


@dataclass(frozen=True)
class Row:
    """A method: its runs, mean, deviation and interval of each score, and its differences to the baseline.

    The baseline has no differences. `pairing` says how the runs of both were compared, see `intervals.differences`.
    P values are corrected for all methods that are compared with the baseline by one score.
    """

    name: str
    runs: list[Run]
    scores: dict[str, dict[str, float | int | None]]
    intervals: dict[str, tuple[float, float]]
    differences: dict[str, Difference] | None
    pairing: Seeds | None


@dataclass(frozen=True)
class Comparison:
    """The methods, in the order given, and the details (of the first run) of how all were measured."""

    baseline: str
    rows: list[Row]
    details: dict[str, Any]
    margin: float | None = None
    """Differences below it count as none."""


def compare(
    arguments: Sequence[str],
    details: str,
    predictions: str,
    baseline: str | None = None,
    margin: float | None = None,
) -> Comparison:
    """Compare the final networks of finished projects.

    Args:
        arguments: project directories, or groups NAME=DIR,DIR,... of runs that differ by their seed; bare directories
            are grouped by all that describes them but the seed.
        details: where results/details.json lies in a project.
        predictions: where results/predictions.parquet lies.
        baseline: the group from which the others' differences are taken; None takes the first one.
        margin: for the test of equivalence, see `intervals.differences`.

    Raises:
        UserError: for a file that is missing or another one, runs measured on other test rows, other training counts
            or in another way, and groups that are not what was asked for.
    """
    groups = grouped_runs(arguments, details, predictions)
    runs = [run for group in groups.values() for run in group]
    for run in runs[1:]:
        _check_alike(runs[0], run)
    baseline = baseline if baseline is not None else next(iter(groups))
    if baseline not in groups:
        raise UserError(f"--baseline {baseline}: no such group, expected one of {', '.join(groups)}")
    measured = _resample(runs)
    level = runs[0].details["confidence"]["level"]
    rows = []
    for name, group in groups.items():
        own = [measured[run.place] for run in group]
        base = groups[baseline]
        apart, pairing = None, None
        if name != baseline:
            pairing = _pairing(group, base)
            apart = differences(own, [measured[run.place] for run in base], level, pairing, margin)
        spread = over_seeds([one.values for one in own])
        rows.append(Row(name, group, spread, intervals(own, level), apart, pairing))
    return Comparison(baseline, _corrected(rows), runs[0].details, margin)


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with p values corrected, score by score, for the number of methods that are compared."""
    compared = [row.differences for row in rows if row.differences is not None]
    found: list[dict[str, Difference]] = [{} for _ in compared]
    for score in compared[0] if compared else ():
        for place, one in enumerate(corrected([method[score] for method in compared])):
            found[place][score] = one
    fixed = iter(found)
    return [row if row.differences is None else replace(row, differences=next(fixed)) for row in rows]


def _check_alike(first: Run, other: Run) -> None:
    """Raise UserError unless two runs are measured on the same test rows, by the same rules."""
    a, b = first.details, other.details
    both = f"{first.place} and {other.place}"
    if a["digests"]["target_test"] != b["digests"]["target_test"] or not np.array_equal(
        first.answers.actual, other.answers.actual
    ):
        raise UserError(f"{both}: found other test rows in each, expected runs that are measured on the same ones")
    if not _equal(first.answers.groups, other.answers.groups):
        raise UserError(f"{both}: found other groups of the test rows in each, expected the same, which are resampled")
    if a["imbalance"]["counts"] != b["imbalance"]["counts"]:
        raise UserError(f"{both}: found other training counts in each, expected the same, on which shot groups depend")
    for key in ("shots", "ece", "confidence"):
        if a[key] != b[key]:
            raise UserError(f"{both}: found other {key} in their details, expected the same parameters of evaluate")


def _equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def _resample(runs: Sequence[Run]) -> dict[Path, Resampled]:
    """Return each run's scores on the same resamples of the test rows."""
    details = runs[0].details
    shots, limits = details["shots"], details["shots"]["thresholds"] or {"many": 0, "few": 0}
    measured = resample(
        runs[0].answers.actual,
        [run.answers.predicted for run in runs],
        details["imbalance"]["counts"],
        make_rule(shots["rule"], limits["many"], limits["few"]),
        [run.answers.confidence for run in runs],
        details["ece"]["bins"],
        details["confidence"]["resamples"],
        _SEED,
        runs[0].answers.groups,
    )
    return {run.place: one for run, one in zip(runs, measured, strict=True)}


def _pairing(group: Sequence[Run], base: Sequence[Run]) -> Seeds:
    """Return how runs are compared: seed by seed where both groups have the same seeds, else without pairs."""
    return "paired" if [run.seed for run in group] == [run.seed for run in base] else "independent"
