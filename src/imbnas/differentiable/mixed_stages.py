"""The continuous relaxation of cells for each stage, with kernel sizes and exits (ZO-DARTS++, arXiv 2503.06092)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from imbnas.cell_graph import EDGES, OPERATIONS
from imbnas.differentiable.mixed_cell import RelaxedCells, mixed_cell
from imbnas.spaces.cells import CONVOLUTION, ActivatedConv, ChoiceCell
from imbnas.spaces.networks import Architecture
from imbnas.spaces.relaxed import Layout, Relaxed
from imbnas.spaces.stage_cells import StageCellsSpace
from imbnas.spaces.stage_supernet import StageSupernet, parts_of

CONV = OPERATIONS.index(f"{CONVOLUTION}3x3")
"""The operation whose kernel size is searched."""


def stage_layout(space: StageCellsSpace) -> Layout:
    """Return the layout of a space: a kind of cell for each stage."""
    return Layout(
        tuple(f"stage_{stage}" for stage in range(1, space.stages + 1)),
        tuple(node for _, node in EDGES),
        OPERATIONS,
        space.kernels if len(space.kernels) > 1 else (),
        space.outline.repeats if space.exits else (),
    )


def spread(operations: Tensor, kernels: Tensor | None, count: int) -> list[Tensor | None]:
    """Return weights (edges,) of a stage's operations in the space's order; None: the operation is not there.

    `operations` is (edges, 5), and `count` how many kernel sizes there are. The convolution's weight is shared out as
    `kernels` (edges, count) say; without them the largest kernel has all.
    """
    columns: list[Tensor | None] = list(operations.unbind(dim=1))
    weight = columns[CONV]
    assert weight is not None
    if kernels is None:
        shares: list[Tensor | None] = [None] * (count - 1) + [weight]
    else:
        shares = [weight * share for share in kernels.unbind(dim=1)]
    columns[CONV] = shares[0]
    return [*columns, *shares[1:]]


class RelaxedStages(RelaxedCells):
    """A supernet of cells for each stage that mixes its operations; the cells of a stage share their weights.

    The output of a stage is the sum of its cells' outputs, weighted by its exits; the cells are chained.
    """

    supernet: StageSupernet

    def __init__(self, supernet: StageSupernet, space: StageCellsSpace, *, learned: bool) -> None:
        """Take the supernet of a space; `learned` says whether its weights are trained along with the architecture."""
        super().__init__(supernet, learned=learned)
        self.layout = stage_layout(space)
        # Of the space what is needed: a copy of this network would copy its tables along, of all cells that there are.
        self.convolutions = tuple(map(space.convolution, space.kernels))

    @torch.no_grad()
    def crop_kernels(self) -> None:
        """Start smaller kernels as the centre of the largest one, where several are searched."""
        sizes = self.layout.kernels
        for cell in self.supernet.blocks if sizes else ():
            for edge in cell.edges if isinstance(cell, ChoiceCell) else ():
                candidates = cast(nn.ModuleList, edge)
                convs = [cast(ActivatedConv, candidates[choice]).conv for choice in self.convolutions]
                for size, conv in zip(sizes[:-1], convs[:-1], strict=True):
                    border = (sizes[-1] - size) // 2
                    inner = slice(border, border + size)
                    cast(Tensor, conv.weight).copy_(cast(Tensor, convs[-1].weight)[:, :, inner, inner])

    def features(self, x: Tensor, relaxed: Relaxed) -> Tensor:
        """Map images (N, C, H, W) to what the head sees."""
        x = self.supernet.stem(x)
        blocks = iter(self.supernet.blocks.children())
        for stage, kind in enumerate(self.layout.kinds):
            if stage:
                x = next(blocks)(x)
            columns = spread(relaxed.operations[kind], relaxed.kernels.get(kind), len(self.convolutions))
            rows = [[None if column is None else column[edge] for column in columns] for edge in range(len(EDGES))]
            outputs: list[Tensor] = []
            for _ in range(self.supernet.repeats[stage]):
                x = mixed_cell(x, cast(ChoiceCell, next(blocks)), rows)
                outputs.append(x)
            if kind in relaxed.exits:
                x = _weighted(outputs, relaxed.exits[kind])
        pooled: Tensor = self.supernet.pool(self.supernet.last(x))
        return pooled

    def one_hot(self, architecture: Architecture) -> Relaxed:
        """Return the weights of one architecture: 1 for what it chooses, 0 for all else."""
        device = next(self.parameters()).device
        operations, kernels, exits = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
        sizes, convs = self.layout.kernels, self.convolutions
        parts = parts_of(architecture, len(self.layout.kinds))
        for kind, part, cells in zip(self.layout.kinds, parts, self.supernet.repeats, strict=True):
            cell = part[: len(EDGES)]
            real = [CONV if choice >= len(OPERATIONS) else choice for choice in cell]
            operations[kind] = _rows(real, len(OPERATIONS), device)
            if sizes:
                # An edge without a convolution has a size all the same, of which nothing follows.
                kernels[kind] = _rows([convs.index(c) if c in convs else 0 for c in cell], len(sizes), device)
            if self.layout.exits:
                exits[kind] = _rows(part[-1:], cells, device)[0]
        return Relaxed(operations, kernels=kernels, exits=exits)


def _rows(places: Sequence[int], width: int, device: torch.device) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(places, device=device), width).float()


def _weighted(outputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    total = torch.zeros_like(outputs[0])
    for output, weight in zip(outputs, weights.unbind(), strict=True):
        total = torch.addcmul(total, output, weight)
    return total
