"""The continuous relaxation of NAS-Bench-201's cell: a weighted sum of the five operations on each of six edges."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.cell_graph import EDGES, NODES, OPERATIONS
from imbnas.spaces.cells import ActivatedConv, CellSupernet, ChoiceCell, Nothing
from imbnas.spaces.networks import classify
from imbnas.spaces.relaxed import Layout, Relaxed

KIND = "cell"


class RelaxedCells(nn.Module):
    """A NAS-Bench-201 supernet that mixes its operations; all cells share one matrix of weights (6, 5).

    Where its weights learn, the operations' BatchNorm has no weights of its own, as in DARTS and in the benchmark's
    code: a factor per operation would do what the architecture's weights are there to do, and hide it from them.
    """

    def __init__(self, supernet: CellSupernet, *, learned: bool) -> None:
        """Take the supernet; `learned` says whether its weights are trained along with the architecture."""
        super().__init__()
        if learned:
            for block in supernet.blocks:
                for operation in block.modules() if isinstance(block, ChoiceCell) else ():
                    if isinstance(operation, ActivatedConv):
                        operation.norm = nn.BatchNorm2d(cast(nn.BatchNorm2d, operation.norm).num_features, affine=False)
        self.supernet = supernet
        self.layout = Layout((KIND,), tuple(node for _, node in EDGES), OPERATIONS)

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

    def features(self, x: Tensor, relaxed: Relaxed) -> Tensor:
        """Map images (N, C, H, W) to what the head sees."""
        rows = [row.unbind() for row in relaxed.operations[KIND].unbind()]
        x = self.supernet.stem(x)
        for block in self.supernet.blocks:
            x = mixed_cell(x, block, rows) if isinstance(block, ChoiceCell) else block(x)
        pooled: Tensor = self.supernet.pool(self.supernet.last(x))
        return pooled

    def forward(self, x: Tensor, relaxed: Relaxed) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        return classify(self.head, self.features(x, relaxed))


def mixed_cell(x: Tensor, cell: ChoiceCell, rows: list[tuple[Tensor, ...]]) -> Tensor:
    """Return the last node of a cell; node 0 is `x`, `rows` holds one weight per operation for each edge.

    ReLU and pooling of a node are computed once for all edges that leave it, and `none` never.
    """
    nodes, activated = [x], [F.relu(x)]
    pooled: dict[int, Tensor] = {}
    for node in range(1, NODES):
        total = torch.zeros_like(x)
        for (source, end), candidates, weights in zip(EDGES, cell.edges, rows, strict=True):
            if end != node:
                continue
            for module, weight in zip(cast(nn.ModuleList, candidates), weights, strict=True):
                if isinstance(module, Nothing):
                    continue
                if isinstance(module, ActivatedConv):
                    y = module.after_relu(activated[source])
                elif isinstance(module, nn.Identity):
                    y = nodes[source]
                else:
                    if source not in pooled:
                        pooled[source] = module(nodes[source])
                    y = pooled[source]
                total = torch.addcmul(total, y, weight)
        nodes.append(total)
        activated.append(F.relu(total))
    return nodes[-1]
