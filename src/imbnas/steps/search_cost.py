"""The penalty of a differentiable search on expected costs, from its parameters and the space's cost table."""

from __future__ import annotations

import math
from fractions import Fraction

from imbnas.differentiable.expected_cost import CostPenalty, costs_of, edge_chances, node_chances
from imbnas.differentiable.expected_stage_cost import stage_chances, stage_rows
from imbnas.errors import UserError
from imbnas.params.cost_options import CostParams
from imbnas.spaces.constraints import largest, minimum
from imbnas.spaces.cost import CostTable
from imbnas.spaces.darts import DartsSpace
from imbnas.spaces.limits import Limits
from imbnas.spaces.most_parameters import most_parameters
from imbnas.spaces.space import SearchSpace
from imbnas.spaces.stage_cell_costs import StageCellCosts
from imbnas.spaces.stage_cells import StageCellsSpace


def make_penalty(params: CostParams, space: SearchSpace, table: CostTable) -> CostPenalty | None:
    """Return the penalty, None for none; raise UserError where no architecture is within its bounds."""
    if params.name == "none":
        return None
    lower, upper, most = bounds(params, table)
    if isinstance(space, StageCellsSpace):
        assert isinstance(table, StageCellCosts)
        rows = stage_rows(table, params.name)
        fixed = float(getattr(table.fixed, params.name))
        return CostPenalty(fixed, rows, stage_chances(space), most, lower, upper, params.scale, params.start)
    fixed, rows = costs_of(table, params.name)
    chances = node_chances(space.operations) if isinstance(space, DartsSpace) else edge_chances
    return CostPenalty(fixed, rows, chances, most, lower, upper, params.scale, params.start)


def bounds(params: CostParams, table: CostTable) -> tuple[int | None, int | None, int]:
    """Return both bounds, of which each may be a share of what the largest architecture has, and that.

    Shares are exact, and rounded down. Raises UserError where no architecture can be within the bounds.
    """
    name = params.name
    most = getattr(table.cost(largest(table, Limits())), name)
    greatest = most if name == "macs" else table.cost(most_parameters(table, Limits())).params
    least = getattr(minimum(table), name)
    lower, upper = _resolved(params.lower, most), _resolved(params.upper, most)
    if lower is not None and upper is not None and lower > upper:
        raise UserError(
            f"search.darts.cost: lower is {params.lower} ({lower} {name}) and upper is {params.upper} ({upper}), "
            "expected lower to be at most upper"
        )
    if upper is not None and upper < least:
        raise UserError(
            f"search.darts.cost.upper: {params.upper} is below every architecture's {name}, expected at least {least}"
        )
    if lower is not None and lower > greatest:
        raise UserError(
            f"search.darts.cost.lower: {params.lower} is above every architecture's {name}, expected at most {greatest}"
        )
    return lower, upper, most


def _resolved(bound: int | str | None, most: int) -> int | None:
    return math.floor(Fraction(bound.removesuffix("x")) * most) if isinstance(bound, str) else bound
