"""Architecture parameters and the weights that they give to operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from imbnas.spaces.relaxed import Layout, Relaxed

Relaxation = Literal["softmax", "sigmoid"]
INITIAL = 1e-3
"""Standard deviation of a softmax's first architecture parameters (Liu et al. 2019)."""


class ArchitectureParameters(nn.Module):
    """One matrix (edges, operations) per kind of cell; with `edge_weights`, also one number per edge.

    `softmax` (Liu et al. 2019): operations of an edge share a weight of 1; they begin at normal(0, 1e-3), drawn from
    torch's global generator. `sigmoid` (FairDARTS, Chu et al. 2020): every operation has a weight of its own in (0, 1);
    they begin at 0, that is at 0.5. Edge weights (PC-DARTS, Xu et al. 2020) are a softmax over the edges into a node.
    """

    def __init__(self, layout: Layout, relaxation: Relaxation, *, edge_weights: bool = False) -> None:
        """Draw the first parameters."""
        super().__init__()
        self.layout, self.relaxation = layout, relaxation
        scale = INITIAL if relaxation == "softmax" else 0.0
        shape = (len(layout.targets), len(layout.operations))
        self.operations = nn.ParameterDict({kind: scale * torch.randn(shape) for kind in layout.kinds})
        self.edges = nn.ParameterDict(
            {kind: INITIAL * torch.randn(shape[0]) for kind in layout.kinds} if edge_weights else {}
        )

    def forward(self, skip: float = 0.0) -> Relaxed:
        """Return the weights, with `skip` for the auxiliary skip connection."""
        return Relaxed(
            {kind: self._activate(values) for kind, values in self.operations.items()},
            {kind: edge_softmax(values, self.layout.targets) for kind, values in self.edges.items()},
            skip,
        )

    def _activate(self, values: Tensor) -> Tensor:
        return values.softmax(dim=1) if self.relaxation == "softmax" else values.sigmoid()


def edge_softmax(values: Tensor, targets: Sequence[int]) -> Tensor:
    """Return (edges,) weights that sum to 1 over the edges that enter the same node; `targets` ascend."""
    sizes = [targets.count(node) for node in sorted(set(targets))]
    return torch.cat([part.softmax(dim=0) for part in values.split(sizes)])


def zero_one_loss(relaxed: Relaxed, norm: Literal["l2", "l1"]) -> Tensor:
    """Return FairDARTS' loss that drives sigmoids to 0 or 1: -mean (s - 0.5)^2 (L2) or -mean |s - 0.5| (L1).

    The mean is over all operations, edges and kinds of cells.
    """
    distance = torch.cat([weights.flatten() for weights in relaxed.operations.values()]) - 0.5
    return -(distance.square() if norm == "l2" else distance.abs()).mean()


def mean_entropy(parameters: ArchitectureParameters) -> float:
    """Return the mean entropy of an edge in nats: log(operations) when all weigh alike, 0 when one has all.

    For sigmoids it is the mean over operations of the entropy of (s, 1 - s), at most log 2.
    """
    with torch.no_grad():
        weights = torch.cat(list(parameters().operations.values())).double()
        if parameters.relaxation == "softmax":
            return float(torch.special.entr(weights).sum(dim=1).mean())
        return float((torch.special.entr(weights) + torch.special.entr(1.0 - weights)).mean())
