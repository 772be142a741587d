"""How often the rule of `transfer.py` comes to a verdict: on simulated tables of normal scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transfer_statistics import rank_correlation, regret

from imbnas.longtail.metrics import Floats
from imbnas.seeds import stream
from imbnas.truth.agreement import LEVEL, Spread

CORRELATIONS = (1.0, 0.97, 0.95, 0.9, 0.8, 0.6)
SIZES = ((48, 3), (96, 3), (192, 3), (384, 3), (48, 12), (96, 12), (192, 12))
"""Cells and seeds."""
ENOUGH = 0.8
"""Share of simulated tables that come to a verdict where a size is said to suffice."""


@dataclass(frozen=True)
class Power:
    """The shares of verdicts at one true correlation of cells' means, by cells and seeds."""

    correlation: float
    cells: int
    seeds: int
    supported: float
    refuted: float

    @property
    def decided(self) -> float:
        """The share of tables that come to a verdict."""
        return self.supported + self.refuted


def simulated(
    rng: np.random.Generator, parts: tuple[Spread, Spread], correlation: float, shape: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return scores (seeds, cells) of two conditions whose cells' true means have this correlation."""
    one, other = rng.normal(size=(2, shape[1]))
    means = (one, correlation * one + np.sqrt(1.0 - correlation**2) * other)
    first, second = (
        own.between * mean + own.within * rng.normal(size=shape) for own, mean in zip(parts, means, strict=True)
    )
    return first, second


def power(parts: tuple[Spread, Spread], correlation: float, size: tuple[int, int], count: int) -> Power:
    """Return how often tables of a size come to each verdict.

    An interval is taken as wide as the statistic varies between the simulated tables, which spares a bootstrap of each.
    """
    cells, seeds = size
    rng = stream(0, "transfer", "power", correlation, cells, seeds)
    first, second = simulated(rng, parts, correlation, (seeds, count * cells))
    places = np.arange(count * cells).reshape(count, cells)
    ends = [_ends(found(places)) for found in (rank_correlation(first, second), regret((first, second), second))]
    (low, high), (least, most) = ends
    supported = (high < 0.9) & (least > 0.005)
    refuted = ~supported & ((low > 0.95) | (most < 0.003))
    return Power(correlation, cells, seeds, float(supported.mean()), float(refuted.mean()))


def powers(
    parts: tuple[Spread, Spread],
    estimate: float,
    size: tuple[int, int],
    count: int,
    others: tuple[float, ...] | None = None,
) -> list[Power]:
    """Return the power at all sizes and correlations: the estimated one first, 1 at the most, then `others`."""
    own = round(min(1.0, estimate), 2)
    sizes = sorted({*SIZES, size}, key=lambda own: (own[1], own[0]))
    correlations = [own, *(one for one in (CORRELATIONS if others is None else others) if one != own)]
    return [power(parts, one, each, count) for one in correlations for each in sizes]


def suffices(found: list[Power], correlation: float) -> Power | None:
    """Return the least size, by its trainings, at which enough tables come to a verdict; None for none of them."""
    good = [one for one in found if one.correlation == correlation and one.decided >= ENOUGH]
    return min(good, key=lambda one: one.cells * one.seeds, default=None)


def _ends(values: Floats) -> tuple[Floats, Floats]:
    low, middle, high = np.nanquantile(values, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    return values + low - middle, values + high - middle
