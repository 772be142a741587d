"""Architectures within a limit on MACs and parameters: whether there are any, the extremes, and random ones.

Where not every tuple of choices is an architecture, a table lists those that are (`listed`), and all questions are
asked of the list. Elsewhere costs add up over blocks, so the cheapest completions of a partly chosen architecture are a
Pareto front of sums over the blocks that are left. One look at it says whether a choice still leads to a subnet within
the limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, Self

import numpy as np

from imbnas.errors import UserError
from imbnas.spaces.cost import Cost, CostTable
from imbnas.spaces.listed import ListedCosts
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace

TRIES = 100
"""Uniform draws before sampling is guided by the fronts."""
STATES = 20_000
"""Partial sums of MACs that `largest` keeps per block."""


@dataclass(frozen=True)
class Limits:
    """Most MACs for one image and most parameters that a subnet may have; None: no limit.

    `given` is how a person wrote each: for messages alone.
    """

    max_macs: int | None = None
    max_params: int | None = None
    given: tuple[str, str] = field(default=("", ""), compare=False)

    @classmethod
    def of(cls, table: CostTable, max_macs: int | str | None, max_params: int | str | None) -> Self:
        """Return limits of which each may be a share of what the largest architecture of a space has, such as "0.6x".

        Shares are exact, and rounded down.
        """
        if not isinstance(max_macs, str) and not isinstance(max_params, str):
            return cls(max_macs, max_params)
        most = table.cost(largest(table, cls()))
        macs, params = _resolved(max_macs, most.macs), _resolved(max_params, most.params)
        return cls(macs, params, (_words(max_macs, macs), _words(max_params, params)))

    @property
    def words(self) -> tuple[str, str]:
        """Return both limits as messages name them."""
        return self.given[0] or str(self.max_macs), self.given[1] or str(self.max_params)

    def allow(self, cost: Cost) -> bool:
        """Return whether a subnet of this cost is within both limits."""
        return self._allow(cost.macs, cost.params)

    def _allow(self, macs: int, params: int) -> bool:
        return (self.max_macs is None or macs <= self.max_macs) and (
            self.max_params is None or params <= self.max_params
        )

    def excess(self, cost: Cost) -> tuple[float, ...]:
        """Return how far a cost is over each limit that there is, as a fraction of it; not above 0 is within."""
        pairs = ((cost.macs, self.max_macs), (cost.params, self.max_params))
        return tuple(found / limit - 1.0 for found, limit in pairs if limit is not None)


def _resolved(limit: int | str | None, most: int) -> int | None:
    if not isinstance(limit, str):
        return limit
    return math.floor(Fraction(limit.removesuffix("x")) * most)


def _words(limit: int | str | None, resolved: int | None) -> str:
    return f"{limit} ({resolved})" if isinstance(limit, str) else ""


class _Point(NamedTuple):
    """A Pareto-optimal completion: its cost, its first choice, and its place in the next block's front."""

    macs: int
    params: int
    choice: int
    rest: int


Front = list[_Point]


def minimum(table: CostTable) -> Cost:
    """Return the fewest MACs and the fewest parameters of any subnet; not always of the same one."""
    if isinstance(table, ListedCosts):
        return Cost(int(table.macs.min()), int(table.params.min()))
    return Cost(
        table.fixed.macs + sum(min(cost.macs for cost in row) for row in table.blocks),
        table.fixed.params + sum(min(cost.params for cost in row) for row in table.blocks),
    )


def feasible(table: CostTable, limits: Limits) -> Architecture:
    """Return the subnet with the fewest MACs within the limits, on ties the one with fewer parameters.

    Exact. Raises UserError naming the smallest possible figure when no subnet is within the limits.
    """
    if isinstance(table, ListedCosts):
        within = table.within(limits.max_macs, limits.max_params)
        if not len(within):
            raise UserError(_refusal(table, limits, table.costs()))
        return table.first(within, table.macs)
    fronts = _fronts(table.blocks)
    base = table.fixed
    for place, point in enumerate(fronts[0]):
        if limits._allow(base.macs + point.macs, base.params + point.params):
            return _trace(fronts, place)
    costs = [Cost(base.macs + point.macs, base.params + point.params) for point in fronts[0]]
    raise UserError(_refusal(table, limits, costs))


def smallest(table: CostTable) -> Architecture:
    """Return the subnet with the fewest MACs, on ties the one with fewer parameters, then the smaller tuple."""
    return feasible(table, Limits())


def sample_feasible(space: SearchSpace, table: CostTable, rng: np.random.Generator, limits: Limits) -> Architecture:
    """Return a random architecture within the limits; raise UserError when there is none.

    Uniform draws are tried first, so that loose limits leave the draw uniform over what they allow. Then the blocks
    are filled in random order, each with a uniform draw from the choices that some completion keeps within the
    limits: every feasible architecture can come, not all with equal chance. From a list the draw is uniform. `table` is
    one of `space`.
    """
    for _ in range(TRIES):
        architecture = space.sample(rng)
        if limits.allow(table.cost(architecture)):
            return architecture
    feasible(table, limits)
    if isinstance(table, ListedCosts):
        within = table.within(limits.max_macs, limits.max_params)
        return table.architectures[int(within[rng.integers(len(within))])]
    return _guided(table, rng, limits)


def _guided(table: CostTable, rng: np.random.Generator, limits: Limits) -> Architecture:
    order = rng.permutation(len(table.blocks)).tolist()
    rows = [table.blocks[block] for block in order]
    fronts = _fronts(rows)
    macs, params = table.fixed.macs, table.fixed.params
    chosen = [0] * len(order)
    for block, row, rest in zip(order, rows, fronts[1:], strict=True):
        open_choices = [
            choice
            for choice, cost in enumerate(row)
            if any(limits._allow(macs + cost.macs + p.macs, params + cost.params + p.params) for p in rest)
        ]
        choice = open_choices[int(rng.integers(len(open_choices)))]
        macs += row[choice].macs
        params += row[choice].params
        chosen[block] = choice
    return tuple(chosen)


def largest(table: CostTable, limits: Limits) -> Architecture:
    """Return the subnet with the most MACs within the limits; on ties fewer parameters, then the smaller tuple.

    A dynamic programme over the sums of MACs that prefixes reach, with the fewest parameters for each. It is exact
    while a block has at most 20 000 such sums. Beyond that each of 20 000 equal intervals keeps one of its sums: the
    result is still within the limits, but may fall short of the most MACs by a small fraction of a percent. Raises
    UserError when no subnet is within the limits.
    """
    feasible(table, limits)
    if isinstance(table, ListedCosts):
        return table.first(table.within(limits.max_macs, limits.max_params), -table.macs)
    greedy = tuple(
        max(range(len(row)), key=lambda choice: (row[choice].macs, -row[choice].params)) for row in table.blocks
    )
    most = table.cost(greedy)
    if limits.allow(most):
        return greedy
    unbounded = limits.max_macs is None or most.macs <= limits.max_macs
    macs, params = np.array([table.fixed.macs]), np.array([table.fixed.params])
    history: list[tuple[np.ndarray, int]] = []
    for row, rest in zip(table.blocks, _fronts(table.blocks)[1:], strict=True):
        macs = (macs[:, None] + np.array([cost.macs for cost in row])).ravel()
        params = (params[:, None] + np.array([cost.params for cost in row])).ravel()
        # Positions are in lexicographic order of the prefixes, and stay so: ties fall to the smaller tuple.
        kept = _completable(macs, params, rest, limits)
        kept = kept[_thin(macs[kept], params[kept], unbounded)]
        macs, params = macs[kept], params[kept]
        history.append((kept, len(row)))
    place = int(np.argmax(macs))
    chosen = []
    for kept, width in reversed(history):
        place, choice = divmod(int(kept[place]), width)
        chosen.append(choice)
    return tuple(reversed(chosen))


def _completable(macs: np.ndarray, params: np.ndarray, rest: Front, limits: Limits) -> np.ndarray:
    """Return the positions of the sums that some completion keeps within the limits."""
    within = np.zeros(len(macs), dtype=bool)
    for point in rest:
        fits = np.ones(len(macs), dtype=bool)
        if limits.max_macs is not None:
            fits &= macs + point.macs <= limits.max_macs
        if limits.max_params is not None:
            fits &= params + point.params <= limits.max_params
        within |= fits
    return np.flatnonzero(within)


def _thin(macs: np.ndarray, params: np.ndarray, unbounded: bool) -> np.ndarray:
    """Return ascending positions of the sums worth keeping: one for each number of MACs, with the fewest parameters.

    Where MACs are `unbounded`, a sum with fewer MACs must also have fewer parameters. At most STATES are left.
    """
    order = np.lexsort((params, macs))
    order = order[np.append(True, np.diff(macs[order]) > 0)]
    if unbounded:
        from_top = params[order][::-1]
        best_above = np.append(np.iinfo(np.int64).max, np.minimum.accumulate(from_top)[:-1])
        order = order[(from_top < best_above)[::-1]]
    if len(order) > STATES:
        low, high = int(macs[order[0]]), int(macs[order[-1]])
        interval = (macs[order] - low) * STATES // (high - low + 1)
        order = order[np.lexsort((params[order], interval))]
        interval = np.sort(interval)
        order = order[np.append(True, np.diff(interval) > 0)]
    return np.sort(order)


def _fronts(rows: Sequence[Sequence[Cost]]) -> list[Front]:
    """Return for each block the Pareto-minimal costs of it and all blocks behind it, fewest MACs first.

    One more front, of the single empty completion, ends the list. Equal costs keep the smaller tuple.
    """
    fronts: list[Front] = [[_Point(0, 0, 0, 0)]]
    for row in reversed(rows):
        points = sorted(
            (
                _Point(cost.macs + point.macs, cost.params + point.params, choice, place)
                for choice, cost in enumerate(row)
                for place, point in enumerate(fronts[-1])
            ),
            key=lambda point: point[:2],
        )
        front: Front = []
        for point in points:
            if not front or point.params < front[-1].params:
                front.append(point)
        fronts.append(front)
    return fronts[::-1]


def _trace(fronts: list[Front], place: int) -> Architecture:
    """Follow a point of the first front to its architecture."""
    chosen = []
    for front in fronts[:-1]:
        point = front[place]
        chosen.append(point.choice)
        place = point.rest
    return tuple(chosen)


def _refusal(table: CostTable, limits: Limits, costs: Sequence[Cost]) -> str:
    """Explain why no subnet is within the limits, with the smallest figures that a subnet has.

    `costs` are those of all subnets, or of those that no other undercuts in both.
    """
    least = minimum(table)
    pairs = (
        ("search.max_macs", limits.max_macs, least.macs),
        ("search.max_params", limits.max_params, least.params),
    )
    alone = [
        f"{name}: found {words}, expected at least {possible}, the smallest subnet's"
        for (name, limit, possible), words in zip(pairs, limits.words, strict=True)
        if limit is not None and limit < possible
    ]
    if alone:
        return "; ".join(alone)
    macs = min(cost.macs for cost in costs if Limits(max_params=limits.max_params).allow(cost))
    params = min(cost.params for cost in costs if Limits(max_macs=limits.max_macs).allow(cost))
    return (
        f"search.max_macs and search.max_params: found {' and '.join(limits.words)}, which no subnet "
        f"meets together, expected max_macs of at least {macs} or max_params of at least {params}"
    )
