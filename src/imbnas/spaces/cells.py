"""The parts of NAS-Bench-201's networks (Dong and Yang 2020, arXiv 2001.00326, section 2) as torch modules.

No module changes its input in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.cell_graph import EDGES, NODES, OPERATIONS, live_cell
from imbnas.spaces.blocks import conv_norm, of_operation
from imbnas.spaces.networks import Architecture, Supernet

CONVOLUTION = "nor_conv_"
"""How the names of convolutions begin."""


class Nothing(nn.Module):
    """The operation `none`: the edge is not there."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros of the input's shape."""
        return torch.zeros_like(x)


class ActivatedConv(nn.Module):
    """ReLU, convolution and BatchNorm that keep the shape."""

    def __init__(self, channels: int, kernel: int) -> None:
        """Build the convolution without bias; BatchNorm has weights."""
        super().__init__()
        self.conv, self.norm = conv_norm(channels, channels, kernel)

    def after_relu(self, activated: Tensor) -> Tensor:
        """Map ReLU's output, which all convolutions that leave a node share."""
        y: Tensor = self.norm(self.conv(activated))
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return self.after_relu(F.relu(x))


def operation(name: str, channels: int) -> nn.Module:
    """Return a new module of one of OPERATIONS, with the settings of the benchmark's trained networks.

    The name of a convolution ends with its kernel, which may also be 5x5 or 7x7.
    """
    if name.startswith(CONVOLUTION):
        return of_operation(name, ActivatedConv(channels, int(name[-1])))
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Identity() if name == "skip_connect" else Nothing()


def without_weights(module: nn.Module) -> nn.Module:
    """Take the weights from an operation's BatchNorm, where there is one, and return the operation.

    In a mixture a factor per operation would do what the architecture's weights are there to do, and hide it from them.
    """
    if isinstance(module, ActivatedConv):
        module.norm = nn.BatchNorm2d(cast(nn.BatchNorm2d, module.norm).num_features, affine=False)
    return module


class MixedNodes:
    """The nodes of a cell that mixes operations: ReLU and pooling of each are computed once for all its edges."""

    def __init__(self, x: Tensor) -> None:
        """Begin with the first node."""
        self.nodes = [x]
        self._activated: dict[int, Tensor] = {}
        self._pooled: dict[int, Tensor] = {}

    def activated(self, node: int) -> Tensor:
        """Return ReLU of a node."""
        if node not in self._activated:
            self._activated[node] = F.relu(self.nodes[node])
        return self._activated[node]

    def carried(self, module: nn.Module, source: int) -> Tensor:
        """Return what an operation other than `none` makes of the node where its edge begins."""
        if isinstance(module, ActivatedConv):
            return module.after_relu(self.activated(source))
        if isinstance(module, nn.Identity):
            return self.nodes[source]
        if source not in self._pooled:
            self._pooled[source] = module(self.nodes[source])
        return self._pooled[source]


def run_cell(x: Tensor, operations: Sequence[nn.Module]) -> Tensor:
    """Return the last node of a cell with one operation per edge: a node is the sum of its edges, node 0 is `x`."""
    nodes, activated = [x], cast(list[Tensor | None], [None] * NODES)
    for node in range(1, NODES):
        total: Tensor | None = None
        for (source, end), module in zip(EDGES, operations, strict=True):
            if end != node or isinstance(module, Nothing):
                continue
            if isinstance(module, ActivatedConv):
                if (shared := activated[source]) is None:
                    shared = activated[source] = F.relu(nodes[source])
                y = module.after_relu(shared)
            else:
                y = module(nodes[source])
            total = y if total is None else total + y
        nodes.append(torch.zeros_like(x) if total is None else total)
    return nodes[-1]


class Cell(nn.Module):
    """A cell with one operation per edge."""

    def __init__(self, operations: Iterable[nn.Module]) -> None:
        """Take six operations of equal channels, in the order of EDGES."""
        super().__init__()
        self.edges = nn.ModuleList(operations)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return run_cell(x, cast(Sequence[nn.Module], self.edges))


class ChoiceCell(nn.Module):
    """A cell with all operations on every edge; a forward pass takes one of each."""

    def __init__(self, channels: int, operations: Sequence[str] = OPERATIONS) -> None:
        """Build all operations; `edges[e][c]` is candidate c of edge e."""
        super().__init__()
        self.edges = nn.ModuleList(nn.ModuleList(operation(name, channels) for name in operations) for _ in EDGES)

    def chosen(self, architecture: Architecture) -> list[nn.Module]:
        """Return the operations that an architecture names, without those that do not act in it."""
        pairs = zip(self.edges, live_cell(architecture), strict=True)
        return [cast(nn.ModuleList, candidates)[choice] for candidates, choice in pairs]

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return run_cell(x, self.chosen(architecture))


class Reduction(nn.Module):
    """The residual block between stages: two 3x3 convolutions, and pooling with a 1x1 convolution beside them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build the block, which halves the sides."""
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            *conv_norm(inputs, outputs, 3, 2, activation=nn.ReLU),
            *conv_norm(outputs, outputs, 3),
        )
        # Odd sides are rounded up, as by the strided convolution of the branch.
        pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / 2, W / 2)."""
        y: Tensor = self.shortcut(x) + self.branch(x)
        return y


class CellSupernet(Supernet):
    """All operations on all edges of all cells; an architecture names one per edge, the same in every cell.

    `blocks` holds cells and reductions in order. State keys of a cell are `blocks.<i>.edges.<e>.<c>.`.
    """

    def __init__(self, stem: nn.Module, blocks: Iterable[nn.Module], last: nn.Module, head: nn.Linear) -> None:
        """Take the parts, whose channels must fit each other."""
        super().__init__(stem, [], last, head)
        self.blocks = nn.ModuleList(blocks)

    def steps(self, architecture: Architecture) -> list[nn.Module]:
        """Return the path's modules, stem to pooling; cells are put together anew, of shared operations."""
        blocks = [Cell(block.chosen(architecture)) if isinstance(block, ChoiceCell) else block for block in self.blocks]
        return [self.stem, *blocks, self.last, self.pool]

    def capturable_modules(self) -> list[tuple[nn.Module, str]]:
        """Return what passes are put together of; of the cells the convolutions, since all else in them varies."""
        convs = [(module, "after_relu") for module in self.blocks.modules() if isinstance(module, ActivatedConv)]
        whole = [self.stem, *(block for block in self.blocks if isinstance(block, Reduction)), self.last]
        return [*convs, *((part, "forward") for part in whole)]

    def shared_steps(self, first: Architecture, second: Architecture) -> int:
        """Return how many steps two different architectures have in common: the stem alone, as all cells change."""
        return 1

    def features(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Map images (N, C, H, W) to what the head sees, (N, num_features)."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, architecture) if isinstance(block, ChoiceCell) else block(x)
        pooled: Tensor = self.pool(self.last(x))
        return pooled
