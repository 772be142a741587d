"""Architecture parameters and the weights that they give to operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from imbnas.differentiable.sparsemax import sparsemax
from imbnas.spaces.relaxed import Layout, Relaxed

Relaxation = Literal["softmax", "sigmoid", "sparsemax"]
INITIAL = 1e-3
"""Standard deviation of the first architecture parameters where operations compete (Liu et al. 2019)."""


class ArchitectureParameters(nn.Module):
    """One matrix (edges, operations) per kind of cell; with `edge_weights`, also one number per edge.

    `softmax` (Liu et al. 2019): operations of an edge share a weight of 1; they begin at normal(0, 1e-3), drawn from
    torch's global generator. `sigmoid` (FairDARTS, Chu et al. 2020): every operation has a weight of its own in (0, 1);
    they begin at 0, that is at 0.5. `sparsemax` (ZO-DARTS+, arXiv 2405.03462): an edge's weights are the projection of
    its parameters, divided by a temperature, on the simplex, so that weak operations weigh exactly 0; they begin as a
    softmax's. Edge weights (PC-DARTS, Xu et al. 2020) are a softmax over the edges into a node.

    Kernel sizes (edges, kernels) and exits (cells,) of each kind, where the layout has them, are there once `widen` has
    drawn them, with weights of the same relaxation.
    """

    def __init__(
        self, layout: Layout, relaxation: Relaxation, *, edge_weights: bool = False, prunes: bool = False
    ) -> None:
        """Draw the first parameters; `prunes` adds which operations are kept, at first all, to the state."""
        super().__init__()
        self.layout, self.relaxation = layout, relaxation
        scale = 0.0 if relaxation == "sigmoid" else INITIAL
        shape = (len(layout.targets), len(layout.operations))
        self.operations = nn.ParameterDict({kind: scale * torch.randn(shape) for kind in layout.kinds})
        self.edges = nn.ParameterDict(
            {kind: INITIAL * torch.randn(shape[0]) for kind in layout.kinds} if edge_weights else {}
        )
        self.kernels, self.exits = nn.ParameterDict(), nn.ParameterDict()
        for kind in layout.kinds if prunes else ():
            self.register_buffer(f"kept_{kind}", torch.ones(shape, dtype=torch.bool))

    @property
    def kept(self) -> dict[str, Tensor]:
        """Return for each kind of cell which operations are not pruned; nothing where none is ever."""
        found = {kind: getattr(self, f"kept_{kind}", None) for kind in self.layout.kinds}
        return {kind: values for kind, values in found.items() if values is not None}

    @property
    def widened(self) -> bool:
        """Whether kernel sizes or exits have parameters."""
        return len(self.kernels) + len(self.exits) > 0

    def widen(self, seed: int) -> None:
        """Add the first parameters of kernel sizes and exits, normal(0, 1e-3): those of operations stay as they are."""
        generator = torch.Generator().manual_seed(seed)
        device = next(self.parameters()).device

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter((INITIAL * torch.randn(*shape, generator=generator)).to(device))

        edges, kernels = len(self.layout.targets), len(self.layout.kernels)
        for kind in self.layout.kinds if kernels else ():
            self.kernels[kind] = drawn(edges, kernels)
        for kind, cells in zip(self.layout.kinds, self.layout.exits, strict=False):
            self.exits[kind] = drawn(cells)

    def narrow(self) -> None:
        """Take away what `widen` added."""
        self.kernels, self.exits = nn.ParameterDict(), nn.ParameterDict()

    def forward(self, skip: float = 0.0, temperature: float = 1.0) -> Relaxed:
        """Return the weights, with `skip` for the auxiliary skip connection; `temperature` is that of sparsemax."""
        return Relaxed(
            {kind: self._weights(kind, values, temperature) for kind, values in self.operations.items()},
            {kind: edge_softmax(values, self.layout.targets) for kind, values in self.edges.items()},
            skip,
            {kind: self._activate(values, temperature) for kind, values in self.kernels.items()},
            {kind: self._activate(values[None], temperature)[0] for kind, values in self.exits.items()},
        )

    @torch.no_grad()
    def ranking(self, relaxed: Relaxed) -> Relaxed:
        """Return the weights by which cells are derived from `relaxed`, which these parameters gave.

        For sparsemax they are a softmax of the same parameters: that ranks an edge's operations alike, and also those
        that weigh nothing, so that the best operation is that of the parameters themselves.
        """
        if self.relaxation != "sparsemax":
            return relaxed
        return Relaxed(
            {kind: values.softmax(dim=1) for kind, values in self.operations.items()},
            relaxed.edges,
            kernels={kind: values.softmax(dim=1) for kind, values in self.kernels.items()},
            exits={kind: values.softmax(dim=0) for kind, values in self.exits.items()},
        )

    def _weights(self, kind: str, values: Tensor, temperature: float) -> Tensor:
        """Return the weights of a kind of cell, 0 for what is pruned."""
        weights, kept = self._activate(values, temperature), self.kept
        return weights * kept[kind] if kept else weights

    def _activate(self, values: Tensor, temperature: float) -> Tensor:
        if self.relaxation == "sigmoid":
            return values.sigmoid()
        return values.softmax(dim=1) if self.relaxation == "softmax" else sparsemax(values / temperature)


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


def mean_entropy(relaxed: Relaxed, relaxation: Relaxation) -> float:
    """Return the mean entropy of an edge in nats: log(operations) when all weigh alike, 0 when one has all.

    For sigmoids it is the mean over operations of the entropy of (s, 1 - s), at most log 2.
    """
    with torch.no_grad():
        weights = torch.cat(list(relaxed.operations.values())).double()
        if relaxation == "sigmoid":
            return float((torch.special.entr(weights) + torch.special.entr(1.0 - weights)).mean())
        return float(torch.special.entr(weights).sum(dim=1).mean())


def sparsity(relaxed: Relaxed) -> tuple[float, float]:
    """Return the share of weights that are exactly 0, and the share of edges on which one operation has all."""
    with torch.no_grad():
        weights = torch.cat(list(relaxed.operations.values()))
        return float((weights == 0.0).double().mean()), float((weights == 1.0).any(dim=1).double().mean())
