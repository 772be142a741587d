"""Means over training runs, with Student's t: runs and test rows as two sources of noise, families, equivalence.

All functions take arrays of any leading shape, so that a simulation of many comparisons is one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from imbnas.errors import UserError
from imbnas.longtail.metrics import Floats

_ENDLESS = 1e9
"""Degrees of freedom that stand for infinitely many: of a variance that is known as well as that of test rows."""


@dataclass(frozen=True)
class Estimate:
    """A mean of runs, its standard error, and the degrees of freedom of Student's t that (mean - truth) / error has."""

    value: Floats
    error: Floats
    freedom: Floats

    def ends(self, level: float) -> tuple[Floats, Floats]:
        """Return the ends of the interval of a level, as 0.95."""
        # Half a second to import, and no step of the chain has several runs.
        from scipy.special import stdtrit

        half = stdtrit(self.freedom, 0.5 + level / 2.0) * self.error
        return self.value - half, self.value + half

    def p(self) -> Floats:
        """Return the two-sided p value of a true mean of 0; without any noise it is 0, or 1 where the mean is 0."""
        return np.minimum(1.0, 2.0 * self._above(np.abs(self.value)))

    def p_equivalent(self, margin: float) -> Floats:
        """Return the p value of a true mean outside of ±margin: the larger of two one-sided tests (Schuirmann 1987)."""
        return np.maximum(self._above(self.value + margin), self._above(margin - self.value))

    def _above(self, distance: Floats) -> Floats:
        """Return the chance that noise alone reaches a distance."""
        from scipy.special import stdtr

        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(self.error > 0.0, distance / self.error, np.where(distance > 0.0, np.inf, -np.inf))
        return np.asarray(stdtr(self.freedom, -t), dtype=float)


def mean_of_runs(runs: ArrayLike, rows: ArrayLike = 0.0) -> Estimate:
    """Return the mean of runs (..., S) that differ by their seed.

    The squared error is the sample variance over the runs by S, of S - 1 degrees of freedom, plus `rows`, the variance
    of the mean under a bootstrap of the test rows with the runs as they are; the degrees of freedom are
    Satterthwaite's. A difference of two methods whose runs are paired is the mean of the runs' differences. What a
    row's noise has of its own in each run is in both variances, so that the interval is rather too wide than too
    narrow.

    Raises:
        UserError: for fewer than two runs, which say nothing of others.
    """
    values = np.asarray(runs, dtype=float)
    return _combined(values.mean(axis=-1), [_of_runs(values)], np.asarray(rows, dtype=float))


def difference_of_runs(first: ArrayLike, second: ArrayLike, rows: ArrayLike = 0.0) -> Estimate:
    """Return the mean of runs (..., S) minus that of other runs (..., T) that are not paired with them (Welch 1947).

    `rows` is the variance of the difference under a bootstrap of the test rows, as for `mean_of_runs`.

    Raises:
        UserError: for fewer than two runs on a side.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    value = a.mean(axis=-1) - b.mean(axis=-1)
    return _combined(value, [_of_runs(a), _of_runs(b)], np.asarray(rows, dtype=float))


def holm(values: Sequence[float]) -> list[float]:
    """Return the p values of a family of comparisons, corrected for their number (Holm 1979), in the order given."""
    order = np.argsort(values, kind="stable")
    corrected, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = least
    return corrected


def _of_runs(values: Floats) -> tuple[Floats, float]:
    """Return the variance of the mean of runs and its degrees of freedom."""
    runs = values.shape[-1]
    if runs < 2:
        raise UserError(f"interval over seeds: found {runs} run(s), expected at least two")
    # Runs of one value have no variance, but their mean's rounding may have some.
    same = np.ptp(values, axis=-1) == 0.0
    return np.where(same, 0.0, values.var(axis=-1, ddof=1)) / runs, runs - 1.0


def _combined(value: Floats, parts: Sequence[tuple[Floats, float]], rows: Floats) -> Estimate:
    total = sum((variance for variance, _ in parts), rows)
    lost = sum((variance**2 / freedom for variance, freedom in parts), np.zeros_like(total))
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(lost > 0.0, total**2 / lost, _ENDLESS)
    return Estimate(value, np.sqrt(total), np.minimum(freedom, _ENDLESS))
