"""Architectures within limits on MACs, parameters and latency: whether there are any, the extremes, and random ones.

Where not every tuple of choices is an architecture, a table lists those that are (`listed`), and all questions are
asked of the list. Elsewhere costs add up over blocks, so the cheapest completions of a partly chosen architecture are a
Pareto front of sums over the blocks that are left. One look at it says whether a choice still leads to a subnet within
the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imbnas.errors import UserError
from imbnas.spaces.cost import Cost, CostTable
from imbnas.spaces.cost_fronts import Front, added, cheapest_completions, trace
from imbnas.spaces.limits import Figures, Limits, milliseconds
from imbnas.spaces.listed import ListedCosts
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace

TRIES = 100
"""Uniform draws before sampling is guided by the fronts."""
STATES = 20_000
"""Partial sums of MACs that `largest` keeps per block."""


def resolve(
    table: CostTable,
    max_macs: int | str | None,
    max_params: int | str | None,
    max_latency: float | str | None = None,
) -> Limits:
    """Return limits of which each may be a share of what the largest architecture of a space has, such as "0.6x"."""
    return Limits.of(table.cost(largest(table, Limits())), max_macs, max_params, max_latency)


def minimum(table: CostTable) -> Cost:
    """Return the fewest MACs, the fewest parameters and the least latency of any subnet; not always of the same one."""
    if isinstance(table, ListedCosts):
        return Cost(int(table.macs.min()), int(table.params.min()), int(table.latencies.min()))
    return Cost(
        table.fixed.macs + sum(min(cost.macs for cost in row) for row in table.blocks),
        table.fixed.params + sum(min(cost.params for cost in row) for row in table.blocks),
        table.fixed.latency + sum(min(cost.latency for cost in row) for row in table.blocks),
    )


def feasible(table: CostTable, limits: Limits) -> Architecture:
    """Return the subnet with the fewest MACs within the limits, on ties the one with fewer parameters.

    Where latency is limited and parameters are not, it decides ties. Exact while fronts are whole. Raises UserError
    naming the smallest possible figure when no subnet is within the limits.
    """
    if isinstance(table, ListedCosts):
        within = table.within(limits)
        if not len(within):
            raise UserError(_refusal(table, limits, table.costs()))
        return table.first(within, table.macs)
    fronts = cheapest_completions(_figures(table, limits))
    costs = [Cost(*added(limits.figures(table.fixed), point.figures)) for point in fronts[0]]
    for place, cost in enumerate(costs):
        if limits.allow(cost):
            return table.smallest_of(trace(fronts, place))
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
        within = table.within(limits)
        return table.architectures[int(within[rng.integers(len(within))])]
    return _guided(table, rng, limits)


def _guided(table: CostTable, rng: np.random.Generator, limits: Limits) -> Architecture:
    order = rng.permutation(len(table.blocks)).tolist()
    blocks = _figures(table, limits)
    rows = [blocks[block] for block in order]
    fronts = cheapest_completions(rows)
    spent = limits.figures(table.fixed)
    chosen = [0] * len(order)
    for block, row, rest in zip(order, rows, fronts[1:], strict=True):
        open_choices = []
        for choice, figures in enumerate(row):
            so_far = added(spent, figures)
            if any(limits.allow(Cost(*added(so_far, point.figures))) for point in rest):
                open_choices.append(choice)
        choice = open_choices[int(rng.integers(len(open_choices)))]
        spent = added(spent, row[choice])
        chosen[block] = choice
    return table.drawn_of(chosen, rng)


def _figures(table: CostTable, limits: Limits) -> list[list[Figures]]:
    """Return what of the blocks' costs decides under some limits."""
    return [[limits.figures(cost) for cost in row] for row in table.blocks]


def largest(table: CostTable, limits: Limits) -> Architecture:
    """Return the subnet with the most MACs within the limits; on ties fewer parameters, then the smaller tuple.

    A dynamic programme over the sums of MACs that prefixes reach, with the least of what else is limited for each. It
    is exact while a block has at most 20 000 such sums. Beyond that each of 20 000 equal intervals keeps one of its
    sums: the result is still within the limits, but may fall short of the most MACs by a small fraction of a percent.
    Raises UserError when no subnet is within the limits.
    """
    feasible(table, limits)
    if isinstance(table, ListedCosts):
        return table.first(table.within(limits), -table.macs)
    blocks = _figures(table, limits)
    greedy = tuple(
        max(range(len(row)), key=lambda choice: (row[choice].macs, -row[choice].params, -row[choice].latency))
        for row in blocks
    )
    biggest = table.smallest_of(greedy)
    most = table.cost(biggest)
    if limits.allow(most):
        return biggest
    sums = _Sums(limits, limits.max_macs is None or most.macs <= limits.max_macs)
    found = np.array(limits.figures(table.fixed))[:, None]
    history: list[tuple[np.ndarray, int]] = []
    for row, rest in zip(blocks, cheapest_completions(blocks)[1:], strict=True):
        found = (found[:, :, None] + np.array(row).T[:, None, :]).reshape(3, -1)
        # Positions are in lexicographic order of the prefixes, and stay so: ties fall to the smaller tuple.
        kept = sums.completable(found, rest)
        kept = kept[sums.thin(found[:, kept])]
        found = found[:, kept]
        history.append((kept, len(row)))
    macs, params, latency = found
    place = int(np.lexsort((latency, params, -macs))[0])
    chosen = []
    for kept, width in reversed(history):
        place, choice = divmod(int(kept[place]), width)
        chosen.append(choice)
    return table.smallest_of(chosen[::-1])


@dataclass(frozen=True)
class _Sums:
    """Decides which sums of figures over the first blocks are worth keeping; they are given as three rows of ints.

    `unbounded` says that no sum of MACs exceeds a limit.
    """

    limits: Limits
    unbounded: bool

    def completable(self, found: np.ndarray, rest: Front) -> np.ndarray:
        """Return the positions of the sums that some completion keeps within the limits."""
        within = np.zeros(found.shape[1], dtype=bool)
        for point in rest:
            within |= self.limits.allow_figures(*(found + np.array(point.figures)[:, None]))
        return np.flatnonzero(within)

    def thin(self, found: np.ndarray) -> np.ndarray:
        """Return ascending positions of the sums worth keeping: for each number of MACs what nothing else undercuts.

        Where MACs are unbounded, and one figure alone is limited, a sum with fewer MACs must also have less of that.
        At most STATES are left.
        """
        macs, params, latency = found
        order = np.lexsort((latency, params, macs))
        group = np.append(0, np.cumsum(np.diff(macs[order]) > 0))
        # Each group's latencies lie below those of the group before it: one running minimum starts anew with each.
        lowered = latency[order] - group * (int(latency.max()) + 1)
        order = order[np.append(True, lowered[1:] < np.minimum.accumulate(lowered)[:-1])]
        both = params.any() and latency.any()
        beside = params / max(1, params.max()) + latency / max(1, latency.max()) if both else params + latency
        if self.unbounded and not both:
            from_top = beside[order][::-1]
            best_above = np.append(np.iinfo(np.int64).max, np.minimum.accumulate(from_top)[:-1])
            order = order[(from_top < best_above)[::-1]]
        if len(order) > STATES:
            low, high = int(macs[order[0]]), int(macs[order[-1]])
            interval = (macs[order] - low) * STATES // (high - low + 1)
            order = order[np.lexsort((beside[order], interval))]
            interval = np.sort(interval)
            order = order[np.append(True, np.diff(interval) > 0)]
        return np.sort(order)


def _refusal(table: CostTable, limits: Limits, costs: Sequence[Cost]) -> str:
    """Explain why no subnet is within the limits, with the smallest figures that a subnet has.

    `costs` are those of all subnets, or of those that no other undercuts in all that is limited.
    """
    least = minimum(table)
    alone = [
        f"{name}: found {words}, expected at least {_shown(figure, getattr(least, figure))}, the smallest subnet's"
        for name, words, figure, limit in limits.named
        if limit < getattr(least, figure)
    ]
    if alone:
        return "; ".join(alone)
    looser = []
    for name, _, figure, _ in limits.named:
        others = limits.without(figure)
        if possible := [getattr(cost, figure) for cost in costs if others.allow(cost)]:
            looser.append(f"{name.removeprefix('search.')} of at least {_shown(figure, min(possible))}")
    return (
        f"{' and '.join(name for name, *_ in limits.named)}: found "
        f"{' and '.join(words for _, words, *_ in limits.named)}, which no subnet meets together, expected "
        f"{' or '.join(looser) or 'looser ones'}"
    )


def _shown(figure: str, value: int) -> str:
    return milliseconds(value) if figure == "latency" else str(value)
