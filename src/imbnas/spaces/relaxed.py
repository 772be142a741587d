"""The weights that a continuous relaxation hands to a network: one per operation, edge and kind of cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The layout of the weights: kinds of cells, the node that each edge of a kind enters, operations' names.

    `kernels` are the sizes of which each edge's convolution has one, ascending, where there are several; `exits` has
    for each kind how many cells of it follow each other, where their number is searched.
    """

    kinds: tuple[str, ...]
    targets: tuple[int, ...]
    operations: tuple[str, ...]
    kernels: tuple[int, ...] = ()
    exits: tuple[int, ...] = ()

    @property
    def widens(self) -> bool:
        """Whether there is more to search than operations."""
        return bool(self.kernels or self.exits)


@dataclass(frozen=True)
class Relaxed:
    """Weights of one forward pass.

    `operations[kind]` is (edges, operations); `edges[kind]`, where it is given, is (edges,) and multiplies all that an
    edge carries (PC-DARTS, Xu et al. 2020); `skip` is the weight of the auxiliary skip connection on every edge
    (DARTS-, Chu et al. 2021). `kernels[kind]` is (edges, kernels), the shares of the convolution's weight;
    `exits[kind]` is (cells,), the shares of the cells' outputs in a stage's (ZO-DARTS++, arXiv 2503.06092). Without
    them the largest kernel and the last cell have all.
    """

    operations: Mapping[str, Tensor]
    edges: Mapping[str, Tensor] = field(default_factory=dict)
    skip: float = 0.0
    kernels: Mapping[str, Tensor] = field(default_factory=dict)
    exits: Mapping[str, Tensor] = field(default_factory=dict)

    def detached(self) -> Relaxed:
        """Return the same weights as constants: a pass over them computes no gradient for the architecture."""
        return Relaxed(
            {kind: weights.detach() for kind, weights in self.operations.items()},
            {kind: weights.detach() for kind, weights in self.edges.items()},
            self.skip,
            {kind: weights.detach() for kind, weights in self.kernels.items()},
            {kind: weights.detach() for kind, weights in self.exits.items()},
        )
