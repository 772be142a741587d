"""The setting of a search, in which its method proposes candidates."""

from __future__ import annotations

from dataclasses import dataclass

from imbnas.params.search import SearchView
from imbnas.search.archive import Archive
from imbnas.search.methods import METHODS, Field
from imbnas.spaces.constraints import Limits, largest, sample_feasible
from imbnas.spaces.cost import CostTable
from imbnas.spaces.most_parameters import most_parameters
from imbnas.spaces.space import SearchSpace


@dataclass(frozen=True)
class Setting:
    """The setting of the search: the space, the costs of its architectures, and their limits."""

    space: SearchSpace
    table: CostTable
    limits: Limits


def explore(view: SearchView, setting: Setting, archive: Archive) -> None:
    """Let the method that the parameters name fill the archive."""
    space, table, limits = setting.space, setting.table, setting.limits
    field = Field(
        space,
        lambda architecture: limits.allow(table.cost(architecture)),
        lambda rng: sample_feasible(space, table, rng, limits),
        lambda architecture: limits.excess(table.cost(architecture)),
        lambda cost: largest(table, limits) if cost == "macs" else most_parameters(table, limits),
    )
    METHODS[view.search.method](field, archive, view.search, view.seed)
