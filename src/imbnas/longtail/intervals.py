"""Intervals of long-tailed scores, paired differences, and the spread over seeds.

The noise of the test rows comes from the bootstrap in `resampling`, within each class; that of the seeds from the
variance of the runs, in `student`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from imbnas.errors import UserError
from imbnas.longtail.difference import Covers, Difference
from imbnas.longtail.metrics import Floats
from imbnas.longtail.resampling import Resampled, resample
from imbnas.longtail.shots import Rule
from imbnas.longtail.student import difference_of_runs, mean_of_runs

Seeds = Literal["paired", "independent", "fixed"]
"""How runs of several seeds are compared: run k of both methods, one method's runs with all of the other's, or as
they are, so that the test rows alone make the interval."""

MIRRORED = ("ece", "harmonic_mean", "geometric_mean")
"""Scores, and groups of them by how their names begin, that resamples raise or lower on average."""
WITHOUT = ("worst_class",)
"""Scores without an interval: the smallest of many recalls is too low already, and in each resample more so."""


def bootstrap(
    labels: ArrayLike,
    predictions: ArrayLike,
    counts: ArrayLike,
    rule: Rule,
    confidence: ArrayLike | None = None,
    bins: int = 15,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> dict[str, tuple[float, float]]:
    """Return intervals (low, high) of the scores of `metrics.summarise` and of the calibration errors: `intervals`.

    Args:
        labels: true classes (N,).
        predictions: predicted classes (N,).
        counts: training rows of each class (C,).
        rule: see `shots.shot_groups`.
        confidence: of the predictions (N,); None leaves the calibration errors out.
        bins: of the calibration errors, under the rule `upper`.
        resamples: number of resamples, at least 1.
        level: of the intervals, in (0, 1).
        seed: of the draws.
        groups: of the rows (N,), see `resample`.

    Raises:
        UserError: as `resample` and `intervals`.
    """
    given = None if confidence is None else [confidence]
    return intervals(resample(labels, [predictions], counts, rule, given, bins, resamples, seed, groups), level)


def paired_bootstrap(
    labels: ArrayLike,
    predictions_a: ArrayLike,
    predictions_b: ArrayLike,
    counts: ArrayLike,
    rule: Rule,
    confidence_a: ArrayLike | None = None,
    confidence_b: ArrayLike | None = None,
    bins: int = 15,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    seeds: Seeds = "paired",
    margin: float | None = None,
) -> dict[str, Difference]:
    """Return each score's difference, method a minus method b, both measured on the same test rows.

    Args:
        labels: true classes (N,).
        predictions_a: predicted classes of method a: (N,), or (S, N) of S training runs that differ by their seed.
        predictions_b: those of method b.
        counts: training rows of each class (C,).
        rule: see `shots.shot_groups`.
        confidence_a: of method a's predictions, in their shape; None in one of both leaves the calibration errors out.
        confidence_b: of method b's.
        bins: of the calibration errors.
        resamples: number of resamples, at least 1.
        level: of the intervals, in (0, 1).
        seed: of the draws.
        seeds: see `differences`.
        margin: likewise.

    Raises:
        UserError: as `resample` and `differences`.
    """
    a, b = np.atleast_2d(predictions_a), np.atleast_2d(predictions_b)
    sure = None
    if confidence_a is not None and confidence_b is not None:
        sure = [*np.atleast_2d(confidence_a), *np.atleast_2d(confidence_b)]
    runs = resample(labels, [*a, *b], counts, rule, sure, bins, resamples, seed)
    return differences(runs[: len(a)], runs[len(a) :], level, seeds, margin)


def intervals(
    runs: Sequence[Resampled],
    level: float = 0.95,
    seeds: Literal["counted", "fixed"] = "counted",
    own_rows: bool = False,
) -> dict[str, tuple[float, float]]:
    """Return the interval (low, high) of each score's mean over runs that differ by their seed (one run is allowed).

    `counted` is Student's t on the runs' values and the rows' variance, `student.mean_of_runs`, cut at 0 and 1. `fixed`
    covers the test rows alone, and so does the interval of a single run, which says nothing of other seeds. `own_rows`
    is as for `differences`.

    The ends of those are percentiles of the resamples. Those of a calibration error q are 2 ece - q: resamples raise
    it, because its bins' differences count by their size, and the mirrored interval takes the rise off that percentiles
    would count twice. The harmonic and the geometric mean of the recalls fall with noise, and are mirrored too.
    Mirrored ends stay in [0, 1]. `worst_class` has no interval: neither covers it.

    Raises:
        UserError: for no runs or a level out of range.
    """
    _check(level, runs)
    ends: dict[str, tuple[float, float]] = {}
    for name in (name for name in runs[0].values if name not in WITHOUT):
        values, draws = _values(runs, name), _mean_draws(runs, name)
        if seeds == "fixed" or len(runs) < 2:
            low, high = _ends(name, float(values.mean()), draws, level)
        else:
            low, high = map(float, mean_of_runs(values, 0.0 if own_rows else draws.var()).ends(level))
        ends[name] = min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)
    return ends


def differences(
    a: Sequence[Resampled],
    b: Sequence[Resampled],
    level: float = 0.95,
    seeds: Seeds = "paired",
    margin: float | None = None,
    own_rows: bool = False,
) -> dict[str, Difference]:
    """Return each score's difference between the mean over runs `a` and that over runs `b`, of one call of `resample`.

    The test rows are resampled together for all runs. `paired` takes as many runs of each, the k-th of both under one
    seed, and Student's t of their differences (`student.mean_of_runs`); `independent` compares runs without pairs
    (`student.difference_of_runs`); `fixed` takes the runs as they are, so that the interval covers the test rows alone.
    So does it where a method has a single run: its ends are then as in `intervals`, its p values the shares of
    resamples on the other side. With a `margin`, as 0.01 for a point of accuracy, `p_equivalent` is that of a true
    difference of at least as much.

    Raises:
        UserError: for no runs, a level out of range, a margin that is not above 0, or unequal numbers of runs that are
            to be paired.
    """
    _check(level, a, b)
    if margin is not None and not margin > 0.0:
        raise UserError(f"margin: found {margin}, expected a number above 0")
    if seeds == "paired" and len(a) != len(b):
        raise UserError(f"paired runs: found {len(a)} and {len(b)}, expected as many of both methods")
    alone = seeds == "fixed" or min(len(a), len(b)) < 2
    found: dict[str, Difference] = {}
    for name in (name for name in a[0].values if name in b[0].values and name not in WITHOUT):
        one, other = _values(a, name), _values(b, name)
        draws = _mean_draws(a, name) - _mean_draws(b, name)
        if alone:
            found[name] = _of_rows(name, float(one.mean() - other.mean()), draws, level, margin)
            continue
        rows = 0.0 if own_rows else draws.var()
        made = mean_of_runs(one - other, rows) if seeds == "paired" else difference_of_runs(one, other, rows)
        low, high = map(float, made.ends(level))
        equivalent = None if margin is None else float(made.p_equivalent(margin))
        covers: Covers = "seeds" if own_rows else "seeds and rows"
        found[name] = Difference(float(made.value), low, high, float(made.p()), covers, equivalent)
    return found


def over_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Return mean, sample standard deviation (ddof 1) and number n of each score of several runs.

    `runs` hold numbers by name; entries that are not a number in one of them are left out. A None (an empty shot
    group) is not counted. The deviation of a single run is None, and so is the mean of no runs.

    Raises:
        UserError: when a score is in the first run and not in another one.
    """
    found: dict[str, dict[str, float | int | None]] = {}
    for name in runs[0] if runs else ():
        missing = [k for k, run in enumerate(runs) if name not in run]
        if missing:
            raise UserError(f"scores of run {missing[0]}: found no {name}, expected one as in the first run")
        values = [run[name] for run in runs if run[name] is not None]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            continue
        mean = float(np.mean(values)) if values else None
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        found[name] = {"mean": mean, "std": deviation, "n": len(values)}
    return found


def _check(level: float, *groups: Sequence[Resampled]) -> None:
    if not 0.0 < level < 1.0:
        raise UserError(f"level: found {level}, expected a number in (0, 1)")
    if not all(groups):
        raise UserError("intervals: found no runs, expected at least one")


def _values(runs: Sequence[Resampled], name: str) -> Floats:
    """Return a score of each run (S,)."""
    return np.array([run.values[name] for run in runs])


def _mean_draws(runs: Sequence[Resampled], name: str) -> Floats:
    """Return the mean of a score over the runs, on each resample of the test rows (R,)."""
    mean: Floats = np.mean([run.draws[name] for run in runs], axis=0)
    return mean


def _of_rows(name: str, value: float, draws: Floats, level: float, margin: float | None) -> Difference:
    """Return a difference whose interval and p values cover the test rows alone."""
    low, high = _ends(name, value, draws, level)
    around = 2.0 * value - draws if name.startswith(MIRRORED) else draws

    def share(beyond: Any) -> float:
        return float(1 + np.count_nonzero(beyond)) / (1 + len(around))

    p = min(1.0, 2.0 * min(share(around <= 0.0), share(around >= 0.0)))
    equivalent = None if margin is None else max(share(around <= -margin), share(around >= margin))
    return Difference(value, low, high, p, "rows", equivalent)


def _ends(name: str, value: float, draws: Floats, level: float) -> tuple[float, float]:
    """Return percentiles of the resamples, mirrored at the value where resamples are biased."""
    tail = (1.0 - level) / 2.0
    low, high = (float(end) for end in np.quantile(draws, [tail, 1.0 - tail]))
    return (2.0 * value - high, 2.0 * value - low) if name.startswith(MIRRORED) else (low, high)
