"""The subnet with the most parameters within limits."""

from __future__ import annotations

import dataclasses

from imbnas.spaces.constraints import largest
from imbnas.spaces.cost import Cost, CostTable
from imbnas.spaces.limits import Limits
from imbnas.spaces.networks import Architecture


def most_parameters(table: CostTable, limits: Limits) -> Architecture:
    """Return the subnet with the most parameters within the limits; on ties fewer MACs, then the smaller tuple.

    It is `largest` with these two in each other's place, and as exact. Raises UserError when no subnet is within.
    """
    blocks = tuple(tuple(_exchanged(cost) for cost in row) for row in table.blocks)
    exchanged = dataclasses.replace(table, fixed=_exchanged(table.fixed), blocks=blocks)
    return largest(exchanged, Limits(limits.max_params, limits.max_macs, limits.max_latency))


def _exchanged(cost: Cost) -> Cost:
    return dataclasses.replace(cost, macs=cost.params, params=cost.macs)
