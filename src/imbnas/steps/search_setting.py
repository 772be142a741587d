"""The setting of a search, in which its method proposes candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from imbnas.errors import UserError
from imbnas.params.search import SearchView
from imbnas.search.archive import Archive
from imbnas.search.methods import METHODS, Field
from imbnas.spaces.constraints import Limits, largest, sample_feasible
from imbnas.spaces.cost import CostTable
from imbnas.spaces.most_parameters import most_parameters
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace
from imbnas.steps.search_table import GivenScores


@dataclass(frozen=True)
class Setting:
    """The setting of the search: the space, the costs of its architectures, and their limits."""

    space: SearchSpace
    table: CostTable
    limits: Limits
    given: GivenScores | None = None
    """The table that scores architectures in place of the supernet; its cells alone are candidates."""


def explore(view: SearchView, setting: Setting, archive: Archive) -> None:
    """Let the method that the parameters name fill the archive."""
    space, table, limits = setting.space, setting.table, setting.limits
    if setting.given is not None:
        METHODS[view.search.method](_listed(setting, setting.given), archive, view.search, view.seed)
        return
    field = Field(
        space,
        lambda architecture: limits.allow(table.cost(architecture)),
        lambda rng: sample_feasible(space, table, rng, limits),
        lambda architecture: limits.excess(table.cost(architecture)),
        lambda cost: largest(table, limits) if cost == "macs" else most_parameters(table, limits),
    )
    METHODS[view.search.method](field, archive, view.search, view.seed)


def _listed(setting: Setting, given: GivenScores) -> Field:
    """Return the field of the table's cells within the limits; UserError where there is none."""
    costs = {cell: setting.table.cost(cell) for cell in given.cells}
    cells = [cell for cell in given.cells if setting.limits.allow(costs[cell])]
    if not cells:
        least = min(costs.values(), key=lambda cost: (cost.macs, cost.params))
        raise UserError(
            f"search.max_macs ({setting.limits.max_macs}), search.max_params ({setting.limits.max_params}): no cell of "
            f"{given.file} is within them, expected at least the smallest, of {least.macs} MACs and {least.params} "
            "parameters"
        )
    known = frozenset(cells)

    def draw(rng: np.random.Generator) -> Architecture:
        return cells[int(rng.integers(len(cells)))]

    def most(figure: Literal["macs", "params"]) -> Architecture:
        first, other = ("macs", "params") if figure == "macs" else ("params", "macs")
        return min(cells, key=lambda cell: (-getattr(costs[cell], first), getattr(costs[cell], other), cell))

    return Field(
        setting.space,
        known.__contains__,
        draw,
        lambda architecture: setting.limits.excess(setting.table.cost(architecture)),
        most,
        cells,
    )
