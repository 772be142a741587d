"""The setting of a search, in which its method proposes candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from imbnas.data.latency_file import BlockLatencies, read_latencies
from imbnas.errors import UserError
from imbnas.params.search import SearchView
from imbnas.run.context import Context
from imbnas.search.archive import Archive
from imbnas.search.methods import METHODS, Field
from imbnas.spaces.constraints import feasible, largest, resolve, sample_feasible
from imbnas.spaces.cost import CostTable, timed
from imbnas.spaces.energy_cost import OperationEnergies, energy_meter
from imbnas.spaces.limits import Limits, milliseconds
from imbnas.spaces.most_parameters import most_parameters
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.steps.energy_limit import with_energy
from imbnas.steps.rows import Rows
from imbnas.steps.search_table import GivenScores, read_given


@dataclass(frozen=True)
class Setting:
    """The setting of the search: the space, the costs of its architectures, and their limits."""

    space: SearchSpace
    table: CostTable
    limits: Limits
    given: GivenScores | None = None
    """The table that scores architectures in place of the supernet; its cells alone are candidates."""
    latencies: BlockLatencies | None = None
    """The table of what blocks take, where latency is a cost."""
    energies: OperationEnergies | None = None
    """The energies of an operation, where energy is a cost."""


def make_setting(view: SearchView, context: Context, tail: Rows) -> Setting:
    """Return the setting that the parameters describe; raise UserError where no subnet is within the limits."""
    info, params = tail.split.info, view.search
    space = make_space(view.space)
    shape, classes, latencies = (info.shape[0], info.shape[1], info.shape[2]), len(info.classes), None
    # Gradient descent compares no candidates.
    energies = None if params.method == "darts" else OperationEnergies.of(view.approximate)
    if energies is None:
        table = space.cost_table(shape, classes)
    else:
        table = space.measure(shape, classes, energy_meter(view.approximate, energies))
    if params.latency is not None:
        latencies = read_latencies(context.root / params.latency, view.space, shape, classes)
        table = timed(table, latencies.fixed, latencies.blocks)
    limits = resolve(table, params.max_macs, params.max_params, params.max_latency)
    head = space.subnet_features * classes
    limits = with_energy(limits, params.max_energy, view.approximate, table, head)
    setting = Setting(space, table, limits, read_given(params, context, space), latencies, energies)
    feasible(table, limits)
    return setting


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
        told = ", ".join(f"{name} ({words})" for name, words, *_ in setting.limits.named)
        taken = "" if setting.latencies is None else f" and {milliseconds(least.latency)} ms"
        raise UserError(
            f"{told}: no cell of {given.file} is within them, expected at least the smallest, of {least.macs} MACs and "
            f"{least.params} parameters{taken}"
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
