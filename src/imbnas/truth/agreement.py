"""Measures how far rankings of cells agree: between seeds, between conditions, and with what a network costs.

A statistic is a function of places of cells, so that it can be taken of a resample of the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from imbnas.longtail.metrics import Floats
from imbnas.seeds import stream

Statistic = Callable[[np.ndarray], float]
"""From places of cells to a number, NaN where it is not defined for them."""
RESAMPLES = 2000
LEVEL = 0.95
ROUNDING = 1e-9
"""A standard deviation that is rounding, of scores that are all alike."""


class Signs:
    """The signs of all differences within a list of values, from which Kendall's tau-b of any resample follows."""

    def __init__(self, values: Sequence[float] | Floats) -> None:
        one = np.asarray(values, dtype=float)
        self.signs = np.sign(one[:, None] - one[None, :])

    def tau(self, other: Signs, places: np.ndarray) -> float:
        """Return tau-b with other values of the same cells; NaN where one of both is constant."""
        grid = np.ix_(places, places)
        a, b = self.signs[grid], other.signs[grid]
        norm = np.sqrt((a * a).sum() * (b * b).sum())
        return float((a * b).sum() / norm) if norm else float("nan")


def tau(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> Statistic:
    """Return Kendall's tau-b of two lists of values, as a statistic."""
    a, b = Signs(first), Signs(second)
    return lambda places: a.tau(b, places)


def mean_tau_of_seeds(scores: Floats) -> Statistic:
    """Return the mean of tau over all pairs of seeds of `scores` (seeds, cells)."""
    signs = [Signs(row) for row in scores]
    return lambda places: float(np.mean([a.tau(b, places) for a, b in combinations(signs, 2)]))


@dataclass(frozen=True)
class Spread:
    """The standard deviation of one training of a cell around the cell's mean, and that of the cells' true means."""

    within: float
    between: float

    def reliability(self, seeds: int) -> float:
        """Return the share of the variance of cells' means over so many seeds that is the cells' own; 0 for none."""
        total = self.between**2 + self.within**2 / seeds
        return self.between**2 / total if total > ROUNDING**2 else 0.0


def spread(scores: Floats, places: np.ndarray) -> Spread:
    """Return the variance components of `scores` (seeds, cells) on some cells (one-way analysis of variance)."""
    chosen = scores[:, places]
    within = float(chosen.var(axis=0, ddof=1).mean())
    between = float(chosen.mean(axis=0).var(ddof=1)) - within / len(chosen)
    return Spread(within**0.5, max(0.0, between) ** 0.5)


def ceiling(reliability: float) -> float:
    """Return the tau that the true means have with means of this reliability (Greiner's relation, both normal)."""
    return 2.0 / np.pi * float(np.arcsin(np.sqrt(reliability)))


def disattenuated(first: Floats, second: Floats) -> Statistic:
    """Return the correlation of two sets of means, corrected for their reliabilities; NaN where one has none.

    Both are scores (seeds, cells). With noise the estimate may exceed 1.
    """

    def corrected(places: np.ndarray) -> float:
        means = [scores[:, places].mean(axis=0) for scores in (first, second)]
        trust = [spread(scores, places).reliability(len(scores)) for scores in (first, second)]
        if min(trust) <= 0.0 or len(set(places.tolist())) < 3:
            return float("nan")
        return float(np.corrcoef(*means)[0, 1] / np.sqrt(trust[0] * trust[1]))

    return corrected


def transfer_regret(first: Floats, second: Floats) -> Statistic:
    """Return what a choice by `first` costs on `second`, both scores (seeds, cells), against a choice by `second`.

    Each choice is made on the mean of all seeds but one, and both are judged by `second` on the seed left out.
    """

    def cost(places: np.ndarray) -> float:
        a, b = first[:, places], second[:, places]
        lost = []
        for seed in range(len(second)):
            others = np.arange(len(second)) != seed
            own, other = b[others].mean(axis=0).argmax(), a[others].mean(axis=0).argmax()
            lost.append(b[seed, own] - b[seed, other])
        return float(np.mean(lost))

    return cost


@dataclass(frozen=True)
class Figure:
    """A statistic of all cells and the ends of its interval under a bootstrap of the cells."""

    value: float
    low: float
    high: float

    def text(self, factor: float = 1.0) -> str:
        """Return the figure with its interval."""
        if np.isnan(self.value):
            return "not defined"
        value, low, high = (f"{factor * number:.2f}" for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def figure(statistic: Statistic, cells: int, resamples: int = RESAMPLES) -> Figure:
    """Return a statistic with its percentile interval; all statistics see the same resamples."""
    rng = stream(0, "truth", "bootstrap", cells)
    drawn = [statistic(rng.integers(cells, size=cells)) for _ in range(resamples)]
    defined = [value for value in drawn if not np.isnan(value)] or [float("nan")]
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(statistic(np.arange(cells)), float(low), float(high))
