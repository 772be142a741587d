"""The expected cost of cells for each stage, with kernel sizes and exits (ZO-DARTS++, arXiv 2503.06092)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from imbnas.cell_graph import EDGES
from imbnas.differentiable.expected_cost import Chances
from imbnas.differentiable.mixed_stages import spread, stage_layout
from imbnas.spaces.relaxed import Relaxed
from imbnas.spaces.stage_cell_costs import StageCellCosts
from imbnas.spaces.stage_cells import StageCellsSpace


def stage_rows(table: StageCellCosts, name: Literal["macs", "params"]) -> tuple[Tensor, ...]:
    """Return one figure of the operations of one cell: for each edge of each stage a row."""
    figures = [torch.tensor([getattr(cost, name) for cost in row], dtype=torch.float64) for row in table.operations]
    return tuple(row for row in figures for _ in EDGES)


def stage_chances(space: StageCellsSpace) -> Chances:
    """Return how often each operation of each edge of each stage is there, in the mean.

    It is the product of two expectations, as edges and exits are chosen apart: the operation's chance in a cell, and
    the number of cells of the stage.
    """
    kinds = stage_layout(space).kinds

    def chances(relaxed: Relaxed) -> list[Tensor]:
        found: list[Tensor] = []
        for kind, most in zip(kinds, space.outline.repeats, strict=True):
            weights = relaxed.operations[kind].double()
            kernels = relaxed.kernels.get(kind)
            columns = spread(weights, None if kernels is None else kernels.double(), len(space.kernels))
            absent = torch.zeros_like(weights[:, 0])
            rows = torch.stack([absent if column is None else column for column in columns], dim=1)
            cells: Tensor | int = most
            if kind in relaxed.exits:
                shares = relaxed.exits[kind].double()
                cells = (shares * torch.arange(1, most + 1, device=shares.device)).sum()
            found += (rows * cells).unbind()
        return found

    return chances
