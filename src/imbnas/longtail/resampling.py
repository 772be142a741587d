"""Bootstrap of the test rows: the scores of several runs on the same resamples (numpy only).

Each resample draws as many rows of a class as it has, with replacement, so that the test split's composition is kept
and no class vanishes. Where rows have groups (patients, bursts), whose rows are alike, whole groups are resampled, by
the Bayesian bootstrap (Rubin 1981): each group has a random weight, which all its rows share, and each class keeps its
share of the split; no class vanishes then either, however few groups it has. Everything that is compared is measured
on the same resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbnas.errors import UserError
from imbnas.longtail.calibration import check_confidence, confidence_bins, expected_calibration_error
from imbnas.longtail.metrics import Floats, Ints, checked, scores
from imbnas.longtail.shots import GROUPS, Rule

_CHUNK = 1 << 18
"""Rows drawn at once: few enough for a processor's cache."""


@dataclass(frozen=True)
class Resampled:
    """The scores of one run, by name: on the test rows themselves, and on each of R resamples of them (R,)."""

    values: dict[str, float]
    draws: dict[str, Floats]


def resample(
    labels: ArrayLike,
    predictions: Sequence[ArrayLike],
    counts: ArrayLike,
    rule: Rule,
    confidence: Sequence[ArrayLike] | None = None,
    bins: int = 15,
    resamples: int = 2000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> list[Resampled]:
    """Return the scores of several runs on the same resamples of the test rows, drawn within each class.

    The scores are those of `metrics.summarise` without empty shot groups, and with `confidence` the calibration error
    `ece` and those of the rows of each group's classes, `ece_many` and so on.

    Args:
        labels: true classes (N,).
        predictions: predicted classes of each run, (N,) each.
        counts: training rows of each class (C,).
        rule: see `shots.shot_groups`.
        confidence: of each run's predictions, (N,) each.
        bins: of the calibration errors.
        resamples: number of resamples, at least 1.
        seed: of the draws.
        groups: the number of each row's group (N,), which is resampled as a whole; None resamples rows.

    Raises:
        UserError: as `metrics.summarise` and `calibration.reliability_table`, and for less than one resample.
    """
    if resamples < 1:
        raise UserError(f"bootstrap: found {resamples} resamples, expected at least 1")
    runs = [
        _Run(labels, guess, counts, rule, None if confidence is None else confidence[k], bins)
        for k, guess in enumerate(predictions)
    ]
    if not runs:
        return []
    parts: list[list[dict[str, Floats]]] = [[] for _ in runs]
    draws: Iterator[tuple[Ints, Floats | None]]
    if groups is None:
        draws = ((drawn, None) for drawn in _rows(runs[0].support, resamples, seed))
    else:
        draws = _weighted(np.asarray(labels), runs[0].support, np.asarray(groups), resamples, seed)
    for drawn, weights in draws:
        for run, found in zip(runs, parts, strict=True):
            found.append(run.measure(drawn, weights))
    return [
        Resampled(run.values(), {name: np.concatenate([part[name] for part in found]) for name in found[0]})
        for run, found in zip(runs, parts, strict=True)
    ]


class _Run:
    """One run's outcomes in the order of the classes, ready to be drawn from."""

    def __init__(
        self,
        labels: ArrayLike,
        predictions: ArrayLike,
        counts: ArrayLike,
        rule: Rule,
        confidence: ArrayLike | None,
        bins: int,
    ) -> None:
        truth, guess, self.groups = checked(labels, predictions, counts, rule)
        order = np.argsort(truth, kind="stable")
        truth, self.guess = truth[order], guess[order]
        self.hit = (self.guess == truth).astype(np.int64)
        self.support = np.bincount(truth, minlength=len(self.groups))
        self.bins = bins
        self.sure: Floats | None = None
        if confidence is not None:
            self.sure = check_confidence(confidence, labels)[0][order]
            self.group = np.array([GROUPS.index(group) for group in self.groups])[truth]
            self.cell = self.group * bins + confidence_bins(self.sure, bins)[0]
            self.gap = self.hit - self.sure

    def values(self) -> dict[str, float]:
        """Return the scores on the rows themselves."""
        found = {name: float(value[0]) for name, value in self._scores(np.arange(len(self.guess))[None]).items()}
        if self.sure is not None:
            found["ece"] = expected_calibration_error(self.sure, self.hit, self.bins)
            for place, group in enumerate(GROUPS):
                inside = self.group == place
                if inside.any():
                    found[f"ece_{group}"] = expected_calibration_error(self.sure[inside], self.hit[inside], self.bins)
        return found

    def measure(self, drawn: Ints, weights: Floats | None = None) -> dict[str, Floats]:
        """Return the scores (R,) on drawn rows (R, N), which are places in the order of the classes.

        With `weights` (R, N) a row counts as so many.
        """
        found = self._scores(drawn, weights)
        if self.sure is not None:
            found |= self._calibration(drawn, weights)
        return found

    def _scores(self, drawn: Ints, weights: Floats | None = None) -> dict[str, Floats]:
        present = np.flatnonzero(self.support)
        starts = (np.cumsum(self.support) - self.support)[present]
        hit = self.hit[drawn] if weights is None else self.hit[drawn] * weights
        hits = np.zeros((len(drawn), len(self.support)), hit.dtype)
        hits[:, present] = np.add.reduceat(hit, starts, axis=1)
        return scores(self.support, hits, _tally(self.guess[drawn], len(self.support), weights), self.groups)

    def _calibration(self, drawn: Ints, weights: Floats | None) -> dict[str, Floats]:
        """Return calibration errors: the sums of a bin's hits minus its confidences, by their size, per drawn row."""
        size = len(GROUPS) * self.bins
        gap = self.gap[drawn] if weights is None else self.gap[drawn] * weights
        sums = _tally(self.cell[drawn], size, gap).reshape(len(drawn), len(GROUPS), self.bins)
        found = {"ece": np.abs(sums.sum(axis=1)).sum(axis=1) / len(self.guess)}
        rows = np.bincount(self.group, minlength=len(GROUPS))
        for place, group in enumerate(GROUPS):
            if rows[place]:
                found[f"ece_{group}"] = np.abs(sums[:, place]).sum(axis=1) / rows[place]
        return found


def _rows(support: Ints, resamples: int, seed: int) -> Iterator[Ints]:
    """Yield places of drawn rows (R, N) among rows sorted by class, a number of resamples at a time."""
    present = support[support > 0]
    first, rows = np.repeat(np.cumsum(present) - present, present), np.repeat(present, present)
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // len(rows))
    for start in range(0, resamples, at_once):
        yield first + rng.integers(0, rows, (min(at_once, resamples - start), len(rows)))


def _weighted(labels: Ints, support: Ints, groups: Ints, resamples: int, seed: int) -> Iterator[tuple[Ints, Floats]]:
    """Yield the places of all rows, sorted by class, and their weights (R, N), a number of resamples at a time.

    The weights of a class sum to its rows.
    """
    order = np.argsort(labels, kind="stable")
    names, member = np.unique(groups[order], return_inverse=True)
    present = support[support > 0]
    starts = np.cumsum(present) - present
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // len(order))
    for start in range(0, resamples, at_once):
        number = min(at_once, resamples - start)
        mass = rng.standard_exponential((number, len(names)))[:, member]
        shares = present / np.add.reduceat(mass, starts, axis=1)
        places = np.broadcast_to(np.arange(len(order)), (number, len(order)))
        yield places, mass * np.repeat(shares, present, axis=1)


def _tally(index: Ints, size: int, weights: Floats | None = None) -> NDArray[Any]:
    """Return how often each index below `size` occurs in each row of (R, N), or its sum of weights: (R, size)."""
    flat = (index + size * np.arange(len(index))[:, None]).ravel()
    heavy = None if weights is None else weights.ravel()
    return np.bincount(flat, heavy, minlength=len(index) * size).reshape(len(index), size)
