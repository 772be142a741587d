"""The cell of NAS-Bench-201 as a graph (Dong and Yang 2020, arXiv 2001.00326, section 2), and which edges act."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What an edge may do, in the benchmark's order."""
NONE = OPERATIONS.index("none")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The cell's edges, from node to node, in the order of the benchmark's strings."""
NODES = 4


def live_cell(choices: Sequence[int]) -> tuple[int, ...]:
    """Return a cell with `none` on every edge from an empty node and on every edge into a node that leads nowhere.

    A node is empty when nothing reaches it from the cell's input. What is left lies on a way from input to output, so
    that all of it acts, and a cell without such a way becomes all `none`.
    """
    acting = _acting(tuple(choice != NONE for choice in choices))
    return tuple(choice if acts else NONE for choice, acts in zip(choices, acting, strict=True))


def is_connected(choices: Sequence[int]) -> bool:
    """Return whether there is a way from a cell's input to its output."""
    return any(_acting(tuple(choice != NONE for choice in choices)))


def connected_cells() -> int:
    """Return how many connected cells differ in what acts: 9,444 of the 15,625 choices."""
    real = len(OPERATIONS) - 1
    patterns = [tuple(bool(number >> edge & 1) for edge in range(len(EDGES))) for number in range(1, 2 ** len(EDGES))]
    return sum(real ** sum(pattern) for pattern in patterns if _acting(pattern) == pattern)


@cache
def _acting(present: tuple[bool, ...]) -> tuple[bool, ...]:
    """Return which of the edges that are present lie on a way from the first node to the last."""
    edges = [edge for edge, there in zip(EDGES, present, strict=True) if there]
    reached, leading = {0}, {NODES - 1}
    # EDGES ascend in their end: one pass in this order, and one backwards by start, reach every node.
    for source, node in edges:
        if source in reached:
            reached.add(node)
    for source, node in sorted(edges, reverse=True):
        if node in leading:
            leading.add(source)
    return tuple(
        there and source in reached and node in leading for (source, node), there in zip(EDGES, present, strict=True)
    )
