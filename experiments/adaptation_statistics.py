"""How well rankings of subnets agree, and how sure that is: over seeds of supernets, and over the draw of the subnets.

A statistic is a function of positions of subnets, so that it can be taken of a resample; it has a value for each run. A
run is a seed of the supernet, or a pair of them. Its figure is the mean over the runs, with the interval of
`imbnas.longtail.student`: Student's t on the runs, with the variance of the subnets' bootstrap added.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imbnas.longtail.student import Estimate, mean_of_runs

Statistic = Callable[[np.ndarray], np.ndarray]
"""From positions of subnets to the values of the runs (runs,)."""


def _signs(values: np.ndarray) -> np.ndarray:
    """Return the signs of all differences (..., n, n) within each row of values (..., n): tau of any resample needs no
    more, and thousands of resamples are then a matter of seconds."""
    return np.sign(values[..., :, None] - values[..., None, :])


def _tau(first: np.ndarray, second: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b of the chosen subnets from signs of two scores; NaN where one of both is constant."""
    places = (..., chosen[:, None], chosen)
    a, b = first[places], second[places]
    norm = np.sqrt((a * a).sum(axis=(-2, -1)) * (b * b).sum(axis=(-2, -1)))
    return np.divide((a * b).sum(axis=(-2, -1)), norm, out=np.full(norm.shape, np.nan), where=norm > 0)


def draws(statistic: Statistic, count: int, resamples: int = 2000) -> np.ndarray:
    """Return the mean of a statistic on resamples of the subnets; for two statistics the resamples are the same."""
    from imbnas.seeds import stream

    rng = stream(0, "experiment", "bootstrap")
    return np.array([statistic(rng.integers(count, size=count)).mean() for _ in range(resamples)])


def estimate(statistic: Statistic, count: int, resamples: int = 2000) -> Estimate:
    """Return the mean over the runs on all subnets, with its error over runs and subnets; of one run over subnets."""
    values = statistic(np.arange(count))
    return mean_of_runs(
        values if len(values) > 1 else np.tile(values, 2), np.nanvar(draws(statistic, count, resamples))
    )


def interval(statistic: Statistic, count: int, resamples: int = 2000) -> tuple[float, float]:
    """Return a 95 % interval."""
    low, high = estimate(statistic, count, resamples).ends(0.95)
    return float(low), float(high)


def value_and_interval(statistic: Statistic, count: int) -> str:
    """Return a statistic of all subnets with its interval, as text."""
    (low, high), values = interval(statistic, count), statistic(np.arange(count))
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def figure(statistic: Statistic, count: int) -> str:
    """Return the same, and say where the interval is over the subnets alone."""
    alone = len(statistic(np.arange(count))) < 2
    return value_and_interval(statistic, count) + (" (subnets alone)" if alone else "")


def agreement(scores: np.ndarray, truth: np.ndarray) -> Statistic:
    """Return each seed's tau of scores (seeds, subnets) with truth (subnets,)."""
    own, true = _signs(scores), _signs(truth)
    return lambda chosen: _tau(own, true, chosen)


def paired(first: np.ndarray, second: np.ndarray, same: bool) -> Statistic:
    """Return tau between seeds of two variants: of equal seeds (`same`), or of different ones.

    A seed is in many pairs of different ones, which makes them depend on each other: each seed has the jackknife's
    pseudo-value, the number of seeds times the mean of all pairs, less what the others' pairs would give. Their mean is
    that of all pairs. From fewer than three seeds no pair is left without one of them: there is one value.
    """
    count = len(first)
    apart = ~np.eye(count, dtype=bool)
    rows, columns = _signs(first)[:, None], _signs(second)[None]

    def values(chosen: np.ndarray) -> np.ndarray:
        every = _tau(rows, columns, chosen)
        if same:
            return np.diag(every)
        whole = every[apart].mean()
        if count < 3:
            return np.array([whole])
        others = [
            every[apart & (np.arange(count) != k) & (np.arange(count) != k)[:, None]].mean() for k in range(count)
        ]
        return count * whole - (count - 1) * np.array(others)

    return values


def difference(first: Statistic, second: Statistic) -> Statistic:
    """Return the difference of two statistics of the same subnets, seed by seed."""
    return lambda chosen: first(chosen) - second(chosen)
