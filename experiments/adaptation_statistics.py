"""How well rankings of subnets agree, with intervals from a bootstrap of the subnets.

A statistic is a function of positions of subnets, so that it can be taken of a resample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray], float]


def tau(first: np.ndarray, second: np.ndarray) -> float:
    """Return Kendall's tau-b."""
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


def draws(statistic: Statistic, count: int, resamples: int = 2000) -> np.ndarray:
    """Return a statistic of resamples of the subnets; for two statistics the resamples are the same."""
    from imbnas.seeds import stream

    rng = stream(0, "experiment", "bootstrap")
    return np.array([statistic(rng.integers(count, size=count)) for _ in range(resamples)])


def interval(statistic: Statistic, count: int, resamples: int = 2000) -> tuple[float, float]:
    """Return a 95 % percentile interval."""
    low, high = np.nanpercentile(draws(statistic, count, resamples), [2.5, 97.5])
    return float(low), float(high)


def figure(statistic: Statistic, count: int) -> str:
    """Return a statistic of all subnets with its interval, as text."""
    low, high = interval(statistic, count)
    return f"{statistic(np.arange(count)):.2f} [{low:.2f}, {high:.2f}]"


def agreement(scores: np.ndarray, truth: np.ndarray) -> Statistic:
    """Return the mean tau over the seeds of scores (seeds, subnets) with truth (subnets,)."""
    return lambda chosen: float(np.mean([tau(row[chosen], truth[chosen]) for row in scores]))


def paired(first: np.ndarray, second: np.ndarray, same: bool) -> Statistic:
    """Return the mean tau between seeds of two variants: of equal seeds (`same`), or of different ones."""
    pairs = [(a, b) for a in range(len(first)) for b in range(len(second)) if (a == b) == same]
    return lambda chosen: float(np.mean([tau(first[a][chosen], second[b][chosen]) for a, b in pairs]))


def difference(first: Statistic, second: Statistic) -> Statistic:
    """Return the difference of two statistics of the same subnets."""
    return lambda chosen: first(chosen) - second(chosen)
