"""NAS-Bench-201's cell with constant weights: what a single-stage search leaves, where nothing is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from imbnas.cell_graph import EDGES, NODES, NONE, OPERATIONS, live_cell
from imbnas.errors import UserError
from imbnas.params.section import short
from imbnas.spaces.cells import MixedNodes, operation, without_weights

Constants = Sequence[Sequence[float]]
"""One weight per operation of each edge, edges in the order of EDGES."""


def check_constants(found: Constants) -> None:
    """Raise UserError unless `found` has a finite weight for each operation of each edge."""
    sizes = [len(row) for row in found]
    if sizes != [len(OPERATIONS)] * len(EDGES):
        raise UserError(
            f"mixture: has rows of {short(sizes)} weights, expected {len(EDGES)} rows of {len(OPERATIONS)}: one weight "
            "per operation of each edge"
        )
    if not torch.tensor(found).isfinite().all():
        raise UserError("mixture: has weights that are not finite numbers of 32 bits, expected such")


def acting(weights: Constants) -> tuple[tuple[int, ...], ...]:
    """Return the operations of each edge that act: their weight is not 0, and their edge is on a way to the output.

    The others, `none` among them, add nothing whatever the image is.
    """
    real = [tuple(place for place, weight in enumerate(row) if weight and place != NONE) for row in weights]
    live = live_cell([places[0] if places else NONE for places in real])
    return tuple(places if choice != NONE else () for places, choice in zip(real, live, strict=True))


def zero_share(weights: Constants) -> float:
    """Return the share of all weights, those of `none` included, that are exactly 0."""
    flat = [weight for row in weights for weight in row]
    return sum(weight == 0.0 for weight in flat) / len(flat)


def describe_mixture(weights: Constants) -> list[str]:
    """Return a line per edge, such as "edge 0 -> 1: 0.61 nor_conv_3x3 + 0.39 skip_connect"; heavy ones come first."""
    lines = []
    for (source, node), row, places in zip(EDGES, weights, acting(weights), strict=True):
        heavy = sorted(places, key=lambda place, row=row: -row[place])  # type: ignore[misc]
        words = [f"{row[place]:.3g} {OPERATIONS[place]}" for place in heavy]
        lines.append(f"edge {source} -> {node}: {' + '.join(words) or 'none'}")
    return lines


class MixedCell(nn.Module):
    """A cell each of whose edges adds up the operations that act, by constant weights.

    State keys are those of a supernet's cell, `edges.<e>.<c>.`; BatchNorm has no weights, as in the search.
    """

    def __init__(self, weights: Constants, channels: int) -> None:
        """Build the operations that act; `weights` are known to be of this cell."""
        super().__init__()
        self.edges = nn.ModuleList()
        self._weights: list[list[float]] = []
        for row, places in zip(weights, acting(weights), strict=True):
            made = {str(place): without_weights(operation(OPERATIONS[place], channels)) for place in places}
            self.edges.append(nn.ModuleDict(made))
            self._weights.append([row[place] for place in places])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        mixed = MixedNodes(x)
        for node in range(1, NODES):
            total: Tensor | None = None
            for (source, end), candidates, weights in zip(EDGES, self.edges, self._weights, strict=True):
                if end != node:
                    continue
                for module, weight in zip(cast(nn.ModuleDict, candidates).values(), weights, strict=True):
                    # Not one fused operation: its rounding depends on the layout, which an exported program changes.
                    y = mixed.carried(module, source) * weight
                    total = y if total is None else total + y
            mixed.nodes.append(torch.zeros_like(x) if total is None else total)
        return mixed.nodes[-1]
