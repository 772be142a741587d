"""The space of NAS-Bench-201: one cell of six edges with five operations, repeated (Dong and Yang 2020)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from imbnas.cell_graph import EDGES, NODES, NONE, OPERATIONS, connected_cells, is_connected, live_cell
from imbnas.errors import UserError
from imbnas.spaces.bilateral import BilateralSubnet, Branch
from imbnas.spaces.blocks import conv_norm
from imbnas.spaces.cells import Cell, CellSupernet, ChoiceCell, Reduction, operation
from imbnas.spaces.chain import Outline
from imbnas.spaces.cost import Cost, Meter, classifier, counting
from imbnas.spaces.listed import ListedCosts
from imbnas.spaces.mixture import Constants, MixedCell, check_constants
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.spaces.space import META, SearchSpace


@dataclass(frozen=True)
class Edge:
    """One edge of the cell, from node `source` (0 is the cell's input) to node `node`."""

    source: int
    node: int
    choices: tuple[str, ...] = OPERATIONS

    @property
    def label(self) -> str:
        """Where the edge is, as a person says it."""
        return f"edge {self.source} -> {self.node}"


class NasBench201Space(SearchSpace):
    """An architecture is six choices among OPERATIONS, shared by all cells, in the order of EDGES.

    Canonical are those whose every operation but `none` lies on a way from the cell's input to its output: of 15,625
    tuples 9,444, and 341 have no way. A network is built of what acts alone, whatever other tuple of its function is
    given: a convolution of an empty node would add its BatchNorm's bias, whatever the image.
    """

    name = "nasbench201"

    def __init__(self, outline: Outline) -> None:
        """Take the outline: `repeats` cells in each stage, and a residual reduction block before all but the first."""
        super().__init__([Edge(*edge) for edge in EDGES], outline.channels[-1])
        self.outline = outline
        self.size = connected_cells()

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the cell with `none` wherever an operation does not act, see `cell_graph.live_cell`."""
        return live_cell(architecture)

    def connected(self, architecture: Architecture) -> bool:
        """Return whether there is a way from the cell's input to its output; all cells are alike."""
        return is_connected(architecture)

    def supernet_on_meta(self, num_classes: int, channels: int) -> CellSupernet:
        """Return a supernet without memory for its weights."""
        with torch.device(META):
            return CellSupernet(self._stem(channels), self._blocks(ChoiceCell), self._last(), self._head(num_classes))

    def subnet_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> Subnet:
        """Return a subnet without memory for its weights."""
        with torch.device(META):
            blocks = self._blocks(_derived(architecture))
            return Subnet(self._stem(channels), blocks, self._last(), self._head(num_classes))

    def mixture_on_meta(self, weights: Constants, num_classes: int, channels: int) -> Subnet:
        """Return a network of cells that mix their operations by constant weights, without memory for its own."""
        check_constants(weights)
        with torch.device(META):
            blocks = self._blocks(partial(MixedCell, weights))
            return Subnet(self._stem(channels), blocks, self._last(), self._head(num_classes))

    def bilateral_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> BilateralSubnet:
        """Return a two-branch network without memory for its weights; the last stage is there twice."""
        with torch.device(META):
            blocks, other = self._blocks(_derived(architecture)), self._blocks(_derived(architecture))
            shared = len(blocks) - self.outline.repeats[-1] - (len(self.outline.channels) > 1)
            branches = Branch(blocks[shared:], self._last()), Branch(other[shared:], self._last())
            head = nn.Linear(2 * self.num_features, num_classes)
            return BilateralSubnet(self._stem(channels), blocks[:shared], branches, head)

    def subnet_state(self, supernet_state: dict[str, Tensor], architecture: Sequence[int]) -> dict[str, Tensor]:
        """Return a supernet's weights as the state of `build_subnet(architecture)`: the same tensors, renamed."""
        chosen = self.canonical(self.check(architecture))
        kept: dict[str, Tensor] = {}
        for key, value in supernet_state.items():
            cell, found, rest = key.partition(".edges.")
            if not found:
                kept[key] = value
                continue
            edge, choice, name = rest.split(".", 2)
            if int(choice) == chosen[int(edge)]:
                kept[f"{cell}.edges.{edge}.{name}"] = value
        return kept

    def _stem(self, channels: int) -> nn.Sequential:
        return nn.Sequential(*conv_norm(channels, self.outline.stem_channels, 3, self.outline.stem_stride))

    def _blocks(self, cell: Callable[[int], nn.Module]) -> list[nn.Module]:
        """Return cells, made for a number of channels by `cell`, and reductions in order."""
        blocks: list[nn.Module] = []
        widths = self.outline.channels
        for stage, (width, repeats) in enumerate(zip(widths, self.outline.repeats, strict=True)):
            if stage:
                blocks.append(Reduction(widths[stage - 1], width))
            blocks += [cell(width) for _ in range(repeats)]
        return blocks

    def _last(self) -> nn.Sequential:
        return nn.Sequential(nn.BatchNorm2d(self.num_features), nn.ReLU(inplace=True))

    def measure(self, image: tuple[int, int, int], num_classes: int, meter: Meter = counting) -> ListedCosts:
        """Return the costs of all cells; that of an operation on an edge is the sum over all repetitions.

        `none` costs nothing: networks are built without it.
        """
        supernet = self.supernet_on_meta(num_classes, image[2]).eval()
        fixed = Cost(0, 0)
        rows = [[Cost(0, 0) for _ in OPERATIONS] for _ in EDGES]
        with meter(image) as (run, x):
            x, cost = run(supernet.stem, x, "stem")
            fixed += cost
            for block in supernet.blocks:
                if not isinstance(block, ChoiceCell):
                    x, cost = run(block, x, "reduction")
                    fixed += cost
                    continue
                for row, candidates in zip(rows, block.edges, strict=True):
                    for choice, candidate in enumerate(candidates.children()):
                        if choice != NONE:
                            row[choice] += run(candidate, x)[1]
            x, last = run(supernet.last, x, "last")
            fixed += last + classifier(run, supernet, x)
        return ListedCosts(fixed, tuple(map(tuple, rows)), tuple(self.enumerate()), live_cell)


def _derived(architecture: Architecture) -> Callable[[int], Cell]:
    """Return what makes a cell of the operations that act in an architecture."""
    choices = live_cell(architecture)
    return lambda width: Cell(operation(OPERATIONS[choice], width) for choice in choices)


def to_string(architecture: Sequence[int]) -> str:
    """Return the published notation, such as "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|"."""
    words = [f"{OPERATIONS[choice]}~{source}|" for (source, _), choice in zip(EDGES, architecture, strict=True)]
    nodes = ["|" + "".join(w for w, (_, n) in zip(words, EDGES, strict=True) if n == node) for node in range(1, NODES)]
    return "+".join(nodes)


def from_string(text: str) -> Architecture:
    """Return the architecture of the published notation; raise UserError for anything else."""
    names = re.findall(r"\|?([a-z0-9_]+)~\d\|", text)
    if all(name in OPERATIONS for name in names) and len(names) == len(EDGES):
        architecture = tuple(OPERATIONS.index(name) for name in names)
        if to_string(architecture) == text:
            return architecture
    raise UserError(
        f"{text!r}: not an architecture of NAS-Bench-201, expected six of {', '.join(OPERATIONS)} as in "
        f"{to_string((3, 3, 3, 1, 3, 3))}"
    )
