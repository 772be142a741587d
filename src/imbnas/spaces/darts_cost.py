"""What the parts of a derived DARTS network cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from imbnas.spaces.cost import Cost
from imbnas.spaces.darts_genotype import CELLS, NODES
from imbnas.spaces.darts_network import CellSpec, DerivedCell, DerivedNetwork
from imbnas.spaces.darts_ops import NONE, single

Edge = tuple[str, int, str]
"""Kind of cell, predecessor, operation."""


def measure_edges(
    model: DerivedNetwork, specs: Sequence[CellSpec], image: tuple[int, int, int], operations: Sequence[str]
) -> tuple[Cost, dict[Edge, Cost]]:
    """Return what all networks share, and each operation on each kind of edge, summed over the cells.

    `model` is on the meta device and of any architecture. Edges of equal shape are measured once.
    """
    height, width, channels = image
    counter = FlopCounterMode(display=False)
    known: dict[tuple[object, ...], Cost] = {}
    places: dict[Edge, Cost] = {}

    def cost(module: nn.Module, x: Tensor) -> Cost:
        before = counter.get_total_flops()
        module(x)
        params = sum(parameter.numel() for parameter in module.parameters())
        return Cost((counter.get_total_flops() - before) // 2, params)

    with torch.no_grad(), torch.device("meta"), counter:
        x = torch.empty(1, channels, height, width)
        fixed = [cost(model.stem, x), cost(model.head, torch.empty(1, model.head.in_features))]
        before = previous = model.stem(x)
        for spec, cell in zip(specs, model.blocks, strict=True):
            assert isinstance(cell, DerivedCell)
            fixed += [cost(cell.before, before), cost(cell.previous, previous)]
            inputs = cell.previous(previous)
            for source in range(1 + NODES):
                stride = 2 if spec.reduces and source < 2 else 1
                x = inputs[:, :, ::2, ::2] if spec.reduces and source >= 2 else inputs
                for name in operations:
                    if name == NONE:
                        continue
                    key = (name, stride, tuple(x.shape))
                    if key not in known:
                        known[key] = cost(single(name, spec.channels, stride).eval(), x)
                    edge = (CELLS[spec.reduces], source, name)
                    places[edge] = _sum([places.get(edge, Cost(0, 0)), known[key]])
            before, previous = previous, cell(before, previous)
    return _sum(fixed), places


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(cost.macs for cost in costs), sum(cost.params for cost in costs))
