"""How sure long-tailed scores are: intervals, paired differences, and spread over seeds (numpy only).

All intervals come from the bootstrap of `resampling`: of the test rows, within each class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from imbnas.errors import UserError
from imbnas.longtail.metrics import Floats, Ints
from imbnas.longtail.resampling import Resampled, resample
from imbnas.longtail.shots import Rule
from imbnas.seeds import derive

Seeds = Literal["paired", "independent", "fixed"]
"""How runs of several seeds are resampled: run k of both methods together, each method's runs by themselves, or not."""

MIRRORED = ("ece", "harmonic_mean", "geometric_mean")
"""Scores, and groups of them by how their names begin, that resamples raise or lower on average."""
WITHOUT = ("worst_class",)
"""Scores without an interval: the smallest of many recalls is too low already, and in each resample more so."""


@dataclass(frozen=True)
class Difference:
    """A score's difference and the ends of its interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0.0 or self.high < 0.0


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

    Raises:
        UserError: as `resample` and `intervals`.
    """
    given = None if confidence is None else [confidence]
    return intervals(resample(labels, [predictions], counts, rule, given, bins, resamples, seed), level)


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

    Raises:
        UserError: as `resample` and `differences`.
    """
    a, b = np.atleast_2d(predictions_a), np.atleast_2d(predictions_b)
    sure = None
    if confidence_a is not None and confidence_b is not None:
        sure = [*np.atleast_2d(confidence_a), *np.atleast_2d(confidence_b)]
    runs = resample(labels, [*a, *b], counts, rule, sure, bins, resamples, seed)
    return differences(runs[: len(a)], runs[len(a) :], level, seeds, seed)


def intervals(
    runs: Sequence[Resampled], level: float = 0.95, seeds: Literal["resampled", "fixed"] = "resampled", seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the interval (low, high) of each score's mean over runs that differ by their seed (one run is allowed).

    `resampled` draws the runs too, with replacement, so that the interval covers the noise of training beside that of
    the test rows; of S runs it sees (S - 1) / S of the training variance. `fixed` covers the test rows alone.

    The ends are percentiles of the resamples. Those of a calibration error q are 2 ece - q: resamples raise it, because
    its bins' differences count by their size, and the mirrored interval takes the rise off that percentiles would count
    twice. The harmonic and the geometric mean of the recalls fall with noise, and are mirrored too. Mirrored ends stay
    in [0, 1]. `worst_class` has no interval: neither covers it.

    Raises:
        UserError: for no runs or a level out of range.
    """
    means, draws = _means(runs, _picks(len(runs), seeds == "resampled", runs, derive(seed, "runs")))
    ends = {name: _ends(name, means[name], draws[name], level) for name in means if name not in WITHOUT}
    return {name: (min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)) for name, (low, high) in ends.items()}


def differences(
    a: Sequence[Resampled], b: Sequence[Resampled], level: float = 0.95, seeds: Seeds = "paired", seed: int = 0
) -> dict[str, Difference]:
    """Return each score's difference between the mean over runs `a` and that over runs `b`, of one call of `resample`.

    The test rows are resampled together for all runs. `paired` also resamples the runs, k of a together with k of b,
    for as many runs of each, the k-th of both under one seed; `independent` resamples each method's runs by themselves;
    `fixed` takes the runs as they are, so that the interval covers the test rows alone. Ends as in `intervals`.

    Raises:
        UserError: for no runs, a level out of range, or unequal numbers of runs that are to be paired.
    """
    if seeds == "paired" and len(a) != len(b):
        raise UserError(f"paired runs: found {len(a)} and {len(b)}, expected as many of both methods")
    picks = _picks(len(a), seeds != "fixed", a, derive(seed, "runs"))
    means_a, draws_a = _means(a, picks)
    if seeds != "paired":
        picks = _picks(len(b), seeds != "fixed", b, derive(seed, "runs", "b"))
    means_b, draws_b = _means(b, picks)
    found: dict[str, Difference] = {}
    for name in (name for name in means_a if name in means_b and name not in WITHOUT):
        value = means_a[name] - means_b[name]
        found[name] = Difference(value, *_ends(name, value, draws_a[name] - draws_b[name], level))
    return found


def over_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Return mean, sample standard deviation (ddof 1) and number n of each score of several runs.

    `runs` hold numbers by name; what is no number in any of them is left out, and a None (an empty shot group) is not
    counted. A deviation needs two runs: it is None for one, and so is the mean for none.

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


def _picks(runs: int, drawn: bool, given: Sequence[Resampled], seed: int) -> Ints:
    """Return which runs make up each resample: drawn with replacement, or all of them; (R, S)."""
    if not runs:
        raise UserError("intervals: found no runs, expected at least one")
    resamples = len(next(iter(given[0].draws.values())))
    if drawn and runs > 1:
        return np.random.default_rng(seed).integers(0, runs, (resamples, runs))
    return np.tile(np.arange(runs), (resamples, 1))


def _means(runs: Sequence[Resampled], picks: Ints) -> tuple[dict[str, float], dict[str, Floats]]:
    """Return each score's mean over the runs, and over those picked for each resample (R,)."""
    means, draws = {}, {}
    for name in runs[0].values:
        means[name] = float(np.mean([run.values[name] for run in runs]))
        table = np.stack([run.draws[name] for run in runs])
        draws[name] = table[picks, np.arange(len(picks))[:, None]].mean(axis=1)
    return means, draws


def _ends(name: str, value: float, draws: Floats, level: float) -> tuple[float, float]:
    if not 0.0 < level < 1.0:
        raise UserError(f"level: found {level}, expected a number in (0, 1)")
    tail = (1.0 - level) / 2.0
    low, high = (float(end) for end in np.quantile(draws, [tail, 1.0 - tail]))
    return (2.0 * value - high, 2.0 * value - low) if name.startswith(MIRRORED) else (low, high)
