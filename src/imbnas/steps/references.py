"""The networks with which `retrain` compares the chosen one: which they are, from the search's record alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imbnas.network_names import LARGEST, random_name
from imbnas.params.reference_options import ReferencesParams
from imbnas.seeds import stream
from imbnas.spaces.constraints import largest
from imbnas.spaces.cost import CostTable
from imbnas.spaces.equal_cost import WINDOW, EqualCost
from imbnas.spaces.limits import Limits
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace
from imbnas.steps.described import describe


def draw_references(
    params: ReferencesParams,
    space: SearchSpace,
    table: CostTable,
    limits: Limits,
    chosen: Architecture,
    seed: int,
    tell: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Return the references by name: architecture, blocks, macs, params, and `gap`, what they cost more than `chosen`.

    `gap` is of MACs, as a share of the chosen one's. Random reference k depends on the seed, on k and on the chosen
    network, never on how many there are. No two are the same, nor the chosen or the largest one; `tell` is told where
    the space has no more, or none of equal cost.
    """
    most = largest(table, limits)
    equal = EqualCost(space, table, limits, table.cost(chosen).macs)
    found: dict[str, Architecture] = {}
    for place in range(1, params.random + 1):
        rng = stream(seed, "retrain", "reference", place)
        architecture = equal.draw(rng, {chosen, most, *found.values()})
        if architecture is None:
            tell(f"references: found {place - 1} other architectures within the limits, {params.random} were asked for")
            break
        found[random_name(place)] = architecture
        if abs(gap := equal.gap(architecture)) > WINDOW:
            tell(
                f"{random_name(place)}: has {gap:+.1%} of the chosen network's MACs, none nearer was found "
                f"(within {WINDOW:.0%} counts as equal cost)"
            )
    if params.largest:
        found[LARGEST] = most
    return {
        name: {**describe(space, table, architecture), "gap": round(equal.gap(architecture), 6)}
        for name, architecture in found.items()
    }
