"""The two networks of the DARTS space: the search network, which holds all operations, and derived ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from imbnas.spaces.darts_cell import EDGES, Mix, SearchCell, mix_of, path_mix
from imbnas.spaces.darts_genotype import CELLS, NODES, Cell, decode
from imbnas.spaces.darts_ops import projected, reduced, single
from imbnas.spaces.networks import Architecture, Supernet, classify
from imbnas.spaces.relaxed import Layout, Relaxed

STEM = 3
"""The stem has this many times the first cells' channels."""


@dataclass(frozen=True)
class CellSpec:
    """The place of a cell: channels of its two inputs and its own, and whether it or the one before it reduces."""

    inputs: tuple[int, int]
    channels: int
    reduces: bool
    after_reduction: bool

    @property
    def kind(self) -> str:
        """`reduce` or `normal`."""
        return CELLS[self.reduces]


def cell_specs(channels: int, layers: int) -> list[CellSpec]:
    """Return the cells of a network: those at a third and two thirds halve the resolution and double the channels."""
    specs: list[CellSpec] = []
    before = previous = STEM * channels
    after_reduction = False
    for layer in range(layers):
        reduces = layer in (layers // 3, 2 * layers // 3)
        channels = 2 * channels if reduces else channels
        specs.append(CellSpec((before, previous), channels, reduces, after_reduction))
        before, previous, after_reduction = previous, NODES * channels, reduces
    return specs


def stem(channels: int, width: int, stride: int) -> nn.Sequential:
    """Return the first convolution, 3x3, and BatchNorm; there is no ReLU, the cells begin with one."""
    return nn.Sequential(
        nn.Conv2d(channels, STEM * width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(STEM * width)
    )


class SearchNetwork(Supernet):
    """All operations on all edges. One forward pass takes a mixture or the path of an architecture."""

    def __init__(
        self, stem: nn.Module, specs: Sequence[CellSpec], operations: Sequence[str], partial: int, head: nn.Module
    ) -> None:
        """Put the cells together; `partial` is one over the share of channels that operations see."""
        super().__init__(stem, [], nn.Identity(), head)
        self.layout = Layout(CELLS, tuple(node for node, _ in EDGES), tuple(operations))
        self.num_features = NODES * specs[-1].channels
        self.cells = nn.ModuleList(
            SearchCell(
                spec.inputs,
                spec.channels,
                operations,
                reduces=spec.reduces,
                after_reduction=spec.after_reduction,
                partial=partial,
            )
            for spec in specs
        )

    def mixes(self, path: Relaxed | Architecture | None) -> dict[str, Mix]:
        """Return what each kind of cell carries; None mixes all operations equally, `none` included."""
        if isinstance(path, tuple):
            return dict(zip(CELLS, map(path_mix, decode(path, self.layout.operations)), strict=True))
        return {kind: mix_of(path or self.uniform(), kind, self.layout.operations) for kind in CELLS}

    def uniform(self) -> Relaxed:
        """Return equal weights of all operations."""
        like = next(self.stem.parameters())
        weights = like.new_full((len(EDGES), len(self.layout.operations)), 1.0 / len(self.layout.operations))
        return Relaxed(dict.fromkeys(CELLS, weights))

    def steps(self, architecture: Architecture) -> list[nn.Module]:
        """Return the path's modules: the stem, and all cells, whose two inputs do not fit between single steps."""
        return [self.stem, PathCells(self, architecture)]

    def shared_steps(self, first: Architecture, second: Architecture) -> int:
        """Return how many steps two different architectures have in common: the stem alone, as all cells change."""
        return 1

    def trunk(self, x: Tensor, mixes: dict[str, Mix]) -> tuple[Tensor, Tensor]:
        """Return the two inputs of the last cell for images (N, C, H, W)."""
        before = previous = self.stem(x)
        for cell in list(self.search_cells())[:-1]:
            before, previous = previous, cell(before, previous, mixes[cell.kind])
        return before, previous

    @property
    def tail(self) -> nn.Module:
        """What stands behind the trunk: the last cell."""
        return self.cells[-1]

    def search_cells(self) -> Iterable[SearchCell]:
        """Return the cells in order."""
        return cast(Iterable[SearchCell], self.cells)

    def last_features(self, states: tuple[Tensor, Tensor], mixes: dict[str, Mix], cell: nn.Module) -> Tensor:
        """Return the pooled output (N, num_features) of the search cell `cell` standing last."""
        pooled: Tensor = self.pool(cell(*states, mixes[cast(SearchCell, cell).kind]))
        return pooled

    def features(self, x: Tensor, architecture: Relaxed | Architecture | None = None) -> Tensor:
        """Map images (N, C, H, W) to what the head sees, (N, num_features)."""
        mixes = self.mixes(architecture)
        return self.last_features(self.trunk(x, mixes), mixes, self.cells[-1])

    def forward(self, x: Tensor, architecture: Relaxed | Architecture | None = None) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        return classify(self.head, self.features(x, architecture))


class PathCells(nn.Module):
    """The cells of a search network with the operations of one architecture, pooling included."""

    def __init__(self, network: SearchNetwork, architecture: Architecture) -> None:
        """Share the network's modules."""
        super().__init__()
        self.cells, self.pool = network.cells, network.pool
        self._mixes = network.mixes(architecture)

    def forward(self, x: Tensor) -> Tensor:
        """Map what leaves the stem to features (N, num_features)."""
        before = previous = x
        for cell in cast(Iterable[SearchCell], self.cells):
            before, previous = previous, cell(before, previous, self._mixes[cell.kind])
        pooled: Tensor = self.pool(previous)
        return pooled


States = tuple[Tensor, Tensor]
"""The outputs of the last two cells, the later one second: what a derived cell sees and what it passes on."""


class Entry(nn.Module):
    """The stem, whose output is both inputs of the first cell."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, x: Tensor) -> States:
        """Map images (N, C, H, W)."""
        y = self.stem(x)
        return y, y


class Latest(nn.Module):
    """The later one of two outputs."""

    def forward(self, states: States) -> Tensor:
        """Return the output of the last cell."""
        return states[1]


class DerivedCell(nn.Module):
    """A cell with the chosen edges only. `drop` is the chance of drop-path, which a training may raise over time."""

    def __init__(self, spec: CellSpec, cell: Cell) -> None:
        super().__init__()
        self.drop = 0.0
        self.before = (reduced if spec.after_reduction else projected)(spec.inputs[0], spec.channels, affine=True)
        self.previous = projected(spec.inputs[1], spec.channels, affine=True)
        self.sources = [[source for source, _ in node] for node in cell]
        self.nodes = nn.ModuleList(
            nn.ModuleList(single(name, spec.channels, 2 if spec.reduces and source < 2 else 1) for source, name in node)
            for node in cell
        )

    def forward(self, inputs: States) -> States:
        """Return the later input and the four nodes side by side.

        In training each edge but identities is dropped for an image with chance `drop`.
        """
        states = [self.before(inputs[0]), self.previous(inputs[1])]
        for sources, operations in zip(self.sources, cast(Iterable[nn.ModuleList], self.nodes), strict=True):
            terms = []
            for source, operation in zip(sources, operations, strict=True):
                y = operation(states[source])
                if self.drop and self.training and not isinstance(operation, nn.Identity):
                    y = drop_path(y, self.drop)
                terms.append(y)
            states.append(terms[0] if len(terms) == 1 else terms[0] + terms[1])
        return inputs[1], torch.cat(states[2:], dim=1)


def drop_path(x: Tensor, chance: float) -> Tensor:
    """Set the whole tensor of some images to zero and scale the others (Larsson et al. 2017).

    The draw comes from torch's global CPU generator, so that a CPU and a GPU draw alike.
    """
    kept = (torch.rand(len(x)) >= chance).to(x.dtype).view(-1, 1, 1, 1) / (1.0 - chance)
    return x * kept.to(x.device)


def derived_cells(specs: Sequence[CellSpec], cells: tuple[Cell, Cell]) -> list[DerivedCell]:
    """Return the cells of a derived network in order."""
    kinds = dict(zip(CELLS, cells, strict=True))
    return [DerivedCell(spec, kinds[spec.kind]) for spec in specs]
