"""Statistics of `ablation.py`: agreement with the truth and regret of each change, and their paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import adaptation_statistics
import numpy as np
from ablation_changes import DEFAULT, FAMILIES, Change
from ablation_scores import UNSCORED, Outcome
from adaptation_statistics import Statistic, agreement, difference, paired

from imbnas.longtail.student import Estimate, holm

LEVEL = 0.95
DEAREST = 2.5
"""How many times the default's seconds a better change may take and still be a default."""
CHEAP = 0.6
"""The share of the default's seconds below which a change may be the default that is merely no worse."""
MARGIN = 0.05
"""Of tau: how much worse a cheaper change may be."""
BETTER = "better"
AGREEMENT, FIRST, FIVE = "tau", "regret of the top 1", "regret of the top 5"
"""The figures of a change."""


def defined(statistic: Statistic) -> Statistic:
    """Return a tau that is 0 where scores are all alike: they do not rank."""
    return lambda chosen: np.nan_to_num(statistic(chosen), nan=0.0)


def regret(places: np.ndarray, truth: np.ndarray, count: int) -> Statistic:
    """Return each seed's regret in points of the best among the `count` cells at the first places.

    `places` are (seeds, searches, cells); a seed's value is the mean over its searches.
    """

    def points(chosen: np.ndarray) -> np.ndarray:
        own, found = truth[chosen], places[..., chosen]
        first = np.argsort(found, axis=-1, kind="stable")[..., :count]
        seen = np.take_along_axis(found, first, axis=-1) < UNSCORED
        best = np.where(seen, own[first], own.min()).max(axis=-1)
        # Means over other numbers of searches round otherwise: equal regrets must be equal.
        return np.round(100.0 * (own.max() - best).mean(axis=-1), 9) + 0.0

    return points


def places_of(scores: np.ndarray, macs: np.ndarray) -> np.ndarray:
    """Return the places (seeds, 1, cells) that scores (seeds, cells) put cells in; of equal ones fewer MACs first."""
    order = np.array([np.lexsort((macs, -row)) for row in scores])
    return np.argsort(order, axis=-1)[:, None, :]


@dataclass(frozen=True)
class Ranked:
    """One way to rank the cells: scores (seeds, cells), and the places (seeds, searches, cells)."""

    scores: np.ndarray
    places: np.ndarray
    seconds: float | None = None

    @classmethod
    def of(cls, outcomes: list[Outcome]) -> Ranked:
        """Return what a change comes to with all seeds."""
        return cls(
            np.array([one.scores for one in outcomes]),
            np.array([one.places for one in outcomes]),
            float(np.mean([one.seconds for one in outcomes])),
        )


class Results:
    """What was measured: the default and the changes, seed by seed, and the truth (cells,)."""

    def __init__(self, changes: Mapping[str, Change], ranked: Mapping[str, Ranked], truth: np.ndarray) -> None:
        """Take the changes, what each came to, and the truth."""
        self.changes, self.ranked, self.truth = changes, ranked, truth

    @property
    def cells(self) -> int:
        """How many cells are ranked."""
        return len(self.truth)

    def statistic(self, name: str, figure: str) -> Statistic:
        """Return a figure of a change, seed by seed."""
        one = self.ranked[name]
        if figure == AGREEMENT:
            return defined(agreement(one.scores, self.truth))
        return regret(one.places, self.truth, 1 if figure == FIRST else 5)

    def estimate(self, statistic: Statistic) -> Estimate:
        """Return a statistic's mean over seeds and its error over seeds and cells."""
        return adaptation_statistics.estimate(statistic, self.cells)

    def figures(self, name: str) -> list[str]:
        """Return the figures that mean something for a change: a search of a few cells ranks no others."""
        change = self.changes.get(name)
        ranks = change is None or not (change.proposes or "choose" in change.tree.get("search", {}))
        return [AGREEMENT, FIRST, FIVE] if ranks else [FIRST, FIVE]

    @cached_property
    def gains(self) -> dict[tuple[str, str], tuple[Estimate, float]]:
        """The changes minus the default, by name and figure, with p corrected for the family's comparisons."""
        found: dict[tuple[str, str], tuple[Estimate, float]] = {}
        for family in FAMILIES:
            for figure in (AGREEMENT, FIRST, FIVE):
                names = [
                    name
                    for name, change in self.changes.items()
                    if change.family == family and figure in self.figures(name) and name in self.ranked
                ]
                found |= {(name, figure): one for name, one in self.family(names, figure).items()}
        return found

    def family(self, names: list[str], figure: str, to: str = DEFAULT) -> dict[str, tuple[Estimate, float]]:
        """Return the differences of some rankings to another one, with p corrected for their number."""
        base = self.statistic(to, figure)
        found = [self.estimate(difference(self.statistic(name, figure), base)) for name in names]
        return dict(zip(names, zip(found, holm([float(one.p()) for one in found]), strict=True), strict=True))

    def between_seeds(self, name: str) -> Statistic:
        """Return how far a change's supernets of different seeds agree with each other."""
        scores = self.ranked[name].scores
        return defined(paired(scores, scores, same=False))

    def ratio(self, name: str) -> float:
        """Return a change's seconds as a multiple of the default's."""
        own, base = self.ranked[name].seconds, self.ranked[DEFAULT].seconds
        return float(own / base) if own is not None and base else 1.0

    def worse(self, name: str) -> bool:
        """Say whether the cell that a change takes is shown to be worse than the default's."""
        low, _ = self.gains[name, FIRST][0].ends(LEVEL)
        return float(low) > 0.0

    def better(self, name: str) -> bool:
        """Say whether a change is shown to be better, at a price that a default may have."""
        figure = self.figures(name)[0]
        gain, p = self.gains[name, figure]
        sign = 1.0 if figure == AGREEMENT else -1.0
        shown = sign * float(gain.value) > 0.0 and p < 1.0 - LEVEL
        return shown and not self.worse(name) and self.ratio(name) <= DEAREST

    def cheaper(self, name: str) -> bool:
        """Say whether a change takes far less time and is shown to rank hardly worse."""
        if not self.changes[name].saves or AGREEMENT not in self.figures(name) or self.ratio(name) > CHEAP:
            return False
        low, _ = self.gains[name, AGREEMENT][0].ends(LEVEL)
        return float(low) > -MARGIN and not self.worse(name)

    def taken(self) -> dict[str, str]:
        """Return the changes that the rule takes, each with its reason; of those that exclude each other the best."""
        names = [name for name in self.ranked if name in self.changes and name != DEFAULT]
        found = {name: BETTER for name in names if self.better(name)}
        found |= {name: "no worse, and cheaper" for name in names if name not in found and self.cheaper(name)}
        kept: dict[str, str] = {}
        for name in sorted(found, key=lambda name: (found[name] != BETTER, -self._gained(name))):
            if not any(self.changes[name].excludes(self.changes[other]) for other in kept):
                kept[name] = found[name]
        return kept

    def _gained(self, name: str) -> float:
        figure = self.figures(name)[0]
        value = float(self.gains[name, figure][0].value)
        return value if figure == AGREEMENT else -value / 100.0

    def least(self, names: list[str]) -> float:
        """Return what changes must gain together in tau: those that the rule takes as cheaper alone may cost a little.

        Changes that the rule does not take have to gain, as better ones have.
        """
        taken = self.taken()
        return -MARGIN if all(taken.get(name, BETTER) != BETTER for name in names) else 0.0


def rank_average(scores: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the mean of the ranks of two scores (seeds, cells), the second maybe (1, cells)."""
    from scipy.stats import rankdata

    return np.asarray((rankdata(scores, axis=-1) + rankdata(other, axis=-1)) / 2.0)


def one_training(own: np.ndarray, truth: np.ndarray) -> tuple[Statistic, Statistic]:
    """Return tau and regret of one training of each cell, judged by the trainings of the other seeds.

    `own` and `truth` are validation and test scores (seeds, cells).
    """
    others = [np.delete(truth, seed, axis=0).mean(axis=0) for seed in range(len(truth))]
    taus = [defined(agreement(row[None], other)) for row, other in zip(own, others, strict=True)]
    lost = [regret(np.argsort(np.argsort(-row))[None, None], other, 1) for row, other in zip(own, others, strict=True)]
    return (
        lambda chosen: np.concatenate([one(chosen) for one in taus]),
        lambda chosen: np.concatenate([one(chosen) for one in lost]),
    )
