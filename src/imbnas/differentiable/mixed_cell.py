"""The continuous relaxation of NAS-Bench-201's cell: a weighted sum of the operations on each of six edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from imbnas.cell_graph import EDGES, NODES, OPERATIONS
from imbnas.spaces.cells import CellSupernet, ChoiceCell, MixedNodes, Nothing, without_weights
from imbnas.spaces.networks import Architecture, classify
from imbnas.spaces.relaxed import Layout, Relaxed

KIND = "cell"
Rows = Sequence[Sequence[Tensor | None]]
"""One weight per operation for each edge; None: the operation is not there."""


class RelaxedCells(nn.Module):
    """A NAS-Bench-201 supernet that mixes its operations; all cells share one matrix of weights, (6, 5) or (6, 4).

    Where its weights learn, the operations' BatchNorm has no weights of its own, as in DARTS and in the benchmark's
    code: a factor per operation would do what the architecture's weights are there to do, and hide it from them.
    """

    def __init__(self, supernet: CellSupernet, *, learned: bool, none: bool = True) -> None:
        """Take the supernet; `learned` says whether its weights are trained along with the architecture.

        `none` is a weight like the others where operations compete. Where each has a weight of its own it would have no
        effect, and is not there.
        """
        super().__init__()
        if learned:
            for block in supernet.blocks:
                for operation in block.modules() if isinstance(block, ChoiceCell) else ():
                    without_weights(operation)
        self.supernet = supernet
        self.layout = Layout((KIND,), tuple(node for _, node in EDGES), OPERATIONS if none else OPERATIONS[1:])

    def supernet_state(self) -> dict[str, Tensor]:
        """Return the weights as those of a supernet: an operation's BatchNorm without its own has weight 1, bias 0."""
        state = self.supernet.state_dict()
        for name, module in self.supernet.named_modules():
            if isinstance(module, nn.BatchNorm2d) and not module.affine:
                assert module.running_mean is not None
                state[f"{name}.weight"] = torch.ones_like(module.running_mean)
                state[f"{name}.bias"] = torch.zeros_like(module.running_mean)
        return state

    @property
    def head(self) -> nn.Module:
        """The classifier."""
        return self.supernet.head

    def mixes(self, relaxed: Relaxed) -> Rows:
        """Return what the edges of all cells carry."""
        return [row.unbind() for row in relaxed.operations[KIND].unbind()]

    def trunk(self, x: Tensor, mixes: Rows) -> Tensor:
        """Map images (N, C, H, W) to the input of the last cell."""
        x = self.supernet.stem(x)
        for block in list(self.supernet.blocks)[:-1]:
            x = mixed_cell(x, block, mixes) if isinstance(block, ChoiceCell) else block(x)
        return x

    @property
    def tail(self) -> nn.Module:
        """What stands behind the trunk: the last cell, and BatchNorm with ReLU."""
        return nn.ModuleList([self.supernet.blocks[-1], self.supernet.last])

    def last_features(self, states: Tensor, mixes: Rows, tail: nn.Module) -> Tensor:
        """Return the pooled output (N, num_features) of `tail` behind the trunk."""
        cell, last = cast(nn.ModuleList, tail)
        pooled: Tensor = self.supernet.pool(last(mixed_cell(states, cast(ChoiceCell, cell), mixes)))
        return pooled

    def features(self, x: Tensor, relaxed: Relaxed) -> Tensor:
        """Map images (N, C, H, W) to what the head sees."""
        mixes = self.mixes(relaxed)
        return self.last_features(self.trunk(x, mixes), mixes, self.tail)

    def one_hot(self, architecture: Architecture) -> Relaxed:
        """Return the weights of one architecture: 1 for the operation of an edge, 0 for the others."""
        names = self.layout.operations
        weights = torch.zeros(len(EDGES), len(names), device=next(self.parameters()).device)
        for edge, choice in enumerate(architecture):
            if OPERATIONS[choice] in names:
                weights[edge, names.index(OPERATIONS[choice])] = 1.0
        return Relaxed({KIND: weights})

    def forward(self, x: Tensor, relaxed: Relaxed) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        return classify(self.head, self.features(x, relaxed))


def mixed_cell(x: Tensor, cell: ChoiceCell, rows: Rows) -> Tensor:
    """Return the last node of a cell; node 0 is `x`, `rows` holds one weight per operation for each edge.

    `none` is never computed.
    """
    mixed = MixedNodes(x)
    for node in range(1, NODES):
        # Ahead of what else uses the node: the order in which uses come decides the bits of its gradient, a sum.
        mixed.activated(node - 1)
        total = torch.zeros_like(x)
        for (source, end), candidates, weights in zip(EDGES, cell.edges, rows, strict=True):
            if end != node:
                continue
            # `none`, which may have no weight, is the first one.
            acting = list(cast(nn.ModuleList, candidates))[-len(weights) :]
            for module, weight in zip(acting, weights, strict=True):
                if weight is not None and not isinstance(module, Nothing):
                    total = torch.addcmul(total, mixed.carried(module, source), weight)
        mixed.nodes.append(total)
    return mixed.nodes[-1]
