"""The space of DARTS (Liu et al. 2019, arXiv 1806.09055): a normal and a reduction cell, stacked.

An architecture is eight ints, one per intermediate node of the normal and then of the reduction cell. Each stands for
the node's one or two predecessors and the operations on them (`darts_genotype.node_choices`). Every such tuple is a
network, and costs add up over nodes, so all searches work here as in the other spaces. The search network and the
derived network differ in size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.spaces.bilateral import BilateralSubnet, Branch
from imbnas.spaces.cost import Cost, CostTable, Meter, counting
from imbnas.spaces.darts_cost import measure_edges
from imbnas.spaces.darts_genotype import CELLS, NODES, Node, decode, node_choices, node_text, pair_count
from imbnas.spaces.darts_network import CellSpec, Entry, Latest, SearchNetwork, cell_specs, derived_cells, stem
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.spaces.space import META, SearchSpace


@dataclass(frozen=True)
class NodeSpec:
    """One intermediate node of a kind of cell, counted from 0, and all that it may be."""

    kind: str
    node: int
    nodes: tuple[Node, ...]

    @property
    def label(self) -> str:
        """Where the node is, as a person says it."""
        return f"{self.kind} cell node {self.node + 1}"

    @property
    def choices(self) -> tuple[str, ...]:
        """Its candidates' names."""
        return tuple(node_text(node) for node in self.nodes)


@dataclass(frozen=True)
class Size:
    """The size of a network of cells: channels of the first cells, and number of cells."""

    channels: int
    layers: int

    @property
    def specs(self) -> list[CellSpec]:
        """The cells in order."""
        return cell_specs(self.channels, self.layers)

    @property
    def features(self) -> int:
        """What the head sees."""
        return NODES * self.specs[-1].channels


class DartsSpace(SearchSpace):
    """All pairs of cells over a set of operations."""

    name = "darts"

    def __init__(
        self, search: Size, derived: Size, operations: Sequence[str], stem_stride: int = 1, partial: int = 1
    ) -> None:
        """Take both sizes, the operations in the order of their indices, and one over the share of channels that
        the search network's operations see (PC-DARTS).
        """
        self.search, self.derived, self.operations = search, derived, tuple(operations)
        self.stem_stride, self.partial = stem_stride, partial
        blocks = [
            NodeSpec(kind, node, tuple(node_choices(node, operations))) for kind in CELLS for node in range(NODES)
        ]
        super().__init__(blocks, search.features)
        self.subnet_features = derived.features
        self._pairs = np.array([pair_count(node, operations) for _ in CELLS for node in range(NODES)])

    # Networks

    def supernet_on_meta(self, num_classes: int, channels: int) -> SearchNetwork:
        """Return a search network without memory for its weights."""
        with torch.device(META):
            entry = stem(channels, self.search.channels, self.stem_stride)
            head = nn.Linear(self.num_features, num_classes)
            return SearchNetwork(entry, self.search.specs, self.operations, self.partial, head)

    def subnet_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> Subnet:
        """Return a derived network without memory for its weights."""
        with torch.device(META):
            cells = derived_cells(self.derived.specs, decode(architecture, self.operations))
            return Subnet(self._entry(channels), cells, Latest(), nn.Linear(self.subnet_features, num_classes))

    def bilateral_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> BilateralSubnet:
        """Return a two-branch network without memory for its weights; the last cell is there twice."""
        with torch.device(META):
            pair = decode(architecture, self.operations)
            cells, other = derived_cells(self.derived.specs, pair), derived_cells(self.derived.specs, pair)
            branches = Branch(cells[-1:], Latest()), Branch(other[-1:], Latest())
            head = nn.Linear(2 * self.subnet_features, num_classes)
            return BilateralSubnet(self._entry(channels), cells[:-1], branches, head)

    def _entry(self, channels: int) -> Entry:
        return Entry(stem(channels, self.derived.channels, self.stem_stride))

    def subnet_state(self, supernet_state: dict[str, Tensor], architecture: Sequence[int]) -> dict[str, Tensor]:
        """Raise UserError: a derived network has another size than the search network and begins with new weights."""
        raise UserError("space: darts derives networks of another size, expected a space that shares its weights")

    # Architectures

    # All tuples are architectures: no edge is `none`, every node has an edge, and the output takes all nodes.

    def _draw(self, rng: np.random.Generator) -> Architecture:
        """Return a uniformly random architecture with two edges per node, as in the original space of DARTS."""
        return tuple(rng.integers(self._pairs).tolist())

    # Costs

    def measure(self, image: tuple[int, int, int], num_classes: int, meter: Meter = counting) -> CostTable:
        """Return the costs of derived networks for images of (height, width, channels); a node's is summed over cells.

        Edges of equal shape are measured once.
        """
        channels = image[2]
        model = self.subnet_on_meta((0,) * len(self.choices), num_classes, channels).eval()
        fixed, places = measure_edges(model, self.derived.specs, image, self.operations, meter)
        rows = tuple(
            tuple(sum((places[block.kind, source, name] for source, name in node), Cost(0, 0)) for node in block.nodes)
            for block in self.specs
        )
        return CostTable(fixed, rows)

    @property
    def specs(self) -> list[NodeSpec]:
        """The nodes in the order of an architecture's ints."""
        return [block for block in self.blocks if isinstance(block, NodeSpec)]
