"""The edges and operations of a DARTS cell's nodes, and the number that stands for those of a node."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from imbnas.errors import UserError
from imbnas.spaces.darts_ops import NONE

NODES = 4
"""Intermediate nodes of a cell; node i chooses among its 2 + i predecessors: two inputs and the earlier nodes."""
CELLS = ("normal", "reduce")
"""The two kinds of cells in the order in which an architecture names them."""

Node = tuple[tuple[int, str], ...]
"""One or two (predecessor, operation) pairs, predecessors ascending."""
Cell = tuple[Node, ...]


def edges() -> list[tuple[int, int]]:
    """Return (node, predecessor) of the 14 edges in the order of the architecture parameters' rows."""
    return [(node, source) for node in range(NODES) for source in range(2 + node)]


def node_choices(node: int, operations: Sequence[str]) -> list[Node]:
    """Return everything that `node` may be: first two edges as in DARTS, then single edges.

    Pairs of predecessors ascend, then the operation on the first, then on the second; `none` is not among them.
    Threshold derivation alone (FairDARTS) leaves a node with a single edge.
    """
    real = [name for name in operations if name != NONE]
    sources = range(2 + node)
    pairs = [
        ((first, a), (second, b))
        for first, second in itertools.combinations(sources, 2)
        for a, b in itertools.product(real, real)
    ]
    return [*pairs, *(((source, name),) for source in sources for name in real)]


def pair_count(node: int, operations: Sequence[str]) -> int:
    """Return how many of `node_choices` have two edges."""
    real = sum(name != NONE for name in operations)
    return (2 + node) * (1 + node) // 2 * real * real


def encode(cells: Sequence[Cell], operations: Sequence[str]) -> tuple[int, ...]:
    """Return the architecture of a normal and a reduction cell: one number per node, the normal cell's first.

    Raises:
        UserError: for a node that is none of `node_choices`.
    """
    numbers = []
    for kind, cell in zip(CELLS, cells, strict=True):
        for node, chosen in enumerate(cell):
            try:
                numbers.append(node_choices(node, operations).index(tuple(sorted(chosen))))
            except ValueError:
                raise UserError(
                    f"architecture: {kind} cell node {node + 1} is {chosen}, expected one or two edges from different "
                    f"predecessors below {2 + node} with operations of {', '.join(operations)} but none"
                ) from None
    return tuple(numbers)


def decode(architecture: Sequence[int], operations: Sequence[str]) -> tuple[Cell, Cell]:
    """Return the normal and the reduction cell that a valid architecture means."""
    nodes = [node_choices(place % NODES, operations)[choice] for place, choice in enumerate(architecture)]
    return tuple(nodes[:NODES]), tuple(nodes[NODES:])


def node_text(node: Node) -> str:
    """Return a node as a person reads it, such as "sep_conv_3x3(input 1) + skip_connect(node 1)"."""
    return " + ".join(f"{name}({source_text(source)})" for source, name in node)


def source_text(source: int) -> str:
    """Return a predecessor's name: input 1 is the cell before the previous one, input 2 the previous one."""
    return f"input {source + 1}" if source < 2 else f"node {source - 1}"
