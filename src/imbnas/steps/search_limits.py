"""A check of limits before anything runs: whether any subnet meets them."""

from __future__ import annotations

from pathlib import Path

from imbnas.data.latency_file import read_latencies
from imbnas.params.config import Params
from imbnas.spaces.constraints import feasible, resolve
from imbnas.spaces.cost import timed
from imbnas.spaces.registry import make_space
from imbnas.steps.search_cost import bounds

FEWEST = 2
"""Classes of one's own images before they are counted; more make a larger head, so that what is refused stays so."""


def check_limits(params: Params, root: Path) -> None:
    """Raise UserError where no subnet of the space is within the limits of the search."""
    search, target = params.search, params.target
    table = make_space(params.space).cost_table(target.shape, target.classes or FEWEST)
    if search.latency is not None:
        found = read_latencies(root / search.latency, params.space, target.shape, target.classes)
        table = timed(table, found.fixed, found.blocks)
    if search.method == "darts" and search.darts.cost.name != "none":
        bounds(search.darts.cost, table)
    feasible(table, resolve(table, search.max_macs, search.max_params, search.max_latency))
