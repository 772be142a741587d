"""An architecture as results/architecture.json and the files of networks hold it."""

from __future__ import annotations

from typing import Any

from imbnas.spaces.cost import CostTable
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace


def describe(space: SearchSpace, table: CostTable, architecture: Architecture) -> dict[str, Any]:
    """Return an architecture's choices, a line for each, and its cost, as JSON values."""
    cost = table.cost(architecture)
    return {
        "architecture": list(architecture),
        "blocks": space.describe(architecture),
        "macs": cost.macs,
        "params": cost.params,
    }
