"""Statistics of what a ranking of cells under one condition says of another condition.

Scores are (seeds, cells). A statistic takes places of cells, whose last axis is a draw of the cells, so that thousands
of draws are computed together; its values have the other axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import fdtrc
from scipy.stats import rankdata

from imbnas.longtail.metrics import Floats
from imbnas.seeds import stream
from imbnas.truth.agreement import LEVEL, RESAMPLES, Figure, spread

Statistic = Callable[[np.ndarray], Floats]
"""From places of cells (..., cells) to values (...,), NaN where it is not defined."""


def correlation(first: Floats, second: Floats) -> Floats:
    """Return Pearson's correlation along the last axis, NaN where one of both is constant."""
    a, b = first - first.mean(axis=-1, keepdims=True), second - second.mean(axis=-1, keepdims=True)
    norm = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return np.divide((a * b).sum(axis=-1), norm, out=np.full(norm.shape, np.nan), where=norm > 0.0)


def reliability(ranks: Floats) -> Floats:
    """Return that of the mean over seeds (Spearman-Brown), from ranks (seeds, ..., cells); NaN where not above 0."""
    count = len(ranks)
    one = np.mean([correlation(a, b) for a, b in combinations(ranks, 2)], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        trust = count * one / (1.0 + (count - 1) * one)
    return np.where(one > 0.0, trust, np.nan)


def plain_rank_correlation(first: Floats, second: Floats) -> Statistic:
    """Return Spearman's correlation of the means over seeds, as a statistic."""

    def found(places: np.ndarray) -> Floats:
        return correlation(*(rankdata(own.mean(axis=0)[places], axis=-1) for own in (first, second)))

    return found


def rank_correlation(first: Floats, second: Floats) -> Statistic:
    """Return Spearman's correlation of the means over seeds, divided by the root of both reliabilities."""
    plain = plain_rank_correlation(first, second)

    def found(places: np.ndarray) -> Floats:
        trust = [reliability(rankdata(own[:, places], axis=-1)) for own in (first, second)]
        return plain(places) / np.sqrt(trust[0] * trust[1])

    return found


def seeds_apart(first: Floats, second: Floats) -> Statistic:
    """Return Pearson's correlation of the true means from covariances of different seeds alone.

    A seed has the same first weights under both conditions. What noise these have in common raises the correlation of
    means, however it is divided by reliabilities; between different seeds there is none.
    """

    def found(places: np.ndarray) -> Floats:
        own = [scores[:, places] - scores[:, places].mean(axis=-1, keepdims=True) for scores in (first, second)]
        other = ~np.eye(len(first), dtype=bool)

        def covariance(a: Floats, b: Floats) -> Floats:
            return np.asarray(np.einsum("i...c,j...c->ij...", a, b)[other].mean(axis=0))

        product = covariance(own[0], own[0]), covariance(own[1], own[1])
        norm = np.where(np.minimum(*product) > 0.0, product[0] * product[1], np.nan)
        return covariance(own[0], own[1]) / np.sqrt(norm)

    return found


def regret(choosing: tuple[Floats, Floats], judge: Floats, top: int = 1) -> Statistic:
    """Return what a choice by the first of `choosing` costs beside a choice by the second, in units of `judge`.

    A choice is the `top` cells that are best in the mean of all seeds but one; `judge` is their mean on the seed left
    out, averaged over the seeds.
    """

    def found(places: np.ndarray) -> Floats:
        lost = []
        for seed in range(len(judge)):
            others = np.arange(len(judge)) != seed
            worth = []
            for own in choosing:
                chosen = np.argsort(-own[others].mean(axis=0)[places], axis=-1, kind="stable")[..., :top]
                worth.append(np.take_along_axis(judge[seed][places], chosen, axis=-1).mean(axis=-1))
            lost.append(worth[1] - worth[0])
        return np.asarray(np.mean(lost, axis=0))

    return found


@dataclass(frozen=True)
class Interaction:
    """The interaction of cell and condition, each condition scaled to a variance of 1 between the cells' true means."""

    share: float
    """Its variance component: 1 minus the correlation of the true means."""
    f: float
    freedom: tuple[int, int]
    p_of_f: float


def interaction(first: Floats, second: Floats) -> Interaction:
    """Return the interaction of scores of two conditions, seed by seed.

    A cell's scaled difference of both conditions varies between cells by the interaction and by the noise of trainings;
    between a cell's seeds by that noise alone. What a seed has in common over all cells changes no rank and is removed.
    """
    scaled = [own / spread(own, np.arange(own.shape[1])).between for own in (centred(first), centred(second))]
    apart = scaled[0] - scaled[1]
    seeds, cells = apart.shape
    freedom = (cells - 1, (cells - 1) * (seeds - 1))
    between = seeds * float(apart.mean(axis=0).var(ddof=1))
    within = float(((apart - apart.mean(axis=0)) ** 2).sum()) / freedom[1]
    f = between / within
    return Interaction((between - within) / seeds / 2.0, f, freedom, float(fdtrc(*freedom, f)))


def centred(scores: Floats) -> Floats:
    """Return scores less the mean of each seed."""
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))


def interval(statistic: Statistic, cells: int, resamples: int = RESAMPLES) -> Figure:
    """Return a statistic with its percentile interval over draws of the cells; all statistics see the same draws."""
    places = stream(0, "transfer", "bootstrap", cells).integers(cells, size=(resamples, cells))
    drawn = statistic(places)
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(drawn) else (np.nan, np.nan)
    return Figure(float(statistic(np.arange(cells))), float(low), float(high))
