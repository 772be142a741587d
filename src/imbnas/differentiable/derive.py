"""Derivation of discrete cells from the weights of operations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbnas.cell_graph import EDGES, OPERATIONS, is_connected, live_cell
from imbnas.cell_graph import NODES as CELL_NODES
from imbnas.spaces.darts_genotype import CELLS, NODES, Cell, Node
from imbnas.spaces.darts_ops import NONE

Weights = NDArray[np.float64]


def strongest_cell(weights: Weights, operations: tuple[str, ...], edge_weights: Weights | None = None) -> Cell:
    """Return a cell by the rule of DARTS (Liu et al. 2019, section 2.4): two edges per node, one operation per edge.

    `weights` is (14, operations) with rows as in `darts_genotype.edges`. An edge is as strong as its best operation but
    `none`, times its edge weight where there are any (PC-DARTS); `none` is never chosen. Ties go to the earlier
    predecessor and the earlier operation.
    """
    return tuple(_node(rows, operations) for rows in _rows(weights, edge_weights))


def threshold_cell(weights: Weights, operations: tuple[str, ...], threshold: float) -> Cell:
    """Return a cell by FairDARTS' sparse rule: each node keeps those of its two strongest edges that reach `threshold`.

    A node that would keep none keeps its strongest edge all the same: the published code drops such nodes and fails on
    an empty cell.
    """
    cells = []
    for rows in _rows(weights, None):
        node = _node(rows, operations)
        strength = {source: _best(rows[source], operations)[0] for source, _ in node}
        # Where all of an edge is pruned nothing is left of it, whatever the threshold.
        kept = tuple(entry for entry in node if strength[entry[0]] >= threshold and strength[entry[0]] > 0.0)
        cells.append(kept or (max(node, key=lambda entry: (strength[entry[0]], -entry[0])),))
    return tuple(cells)


def _rows(weights: Weights, edge_weights: Weights | None) -> list[Weights]:
    """Return one array (predecessors, operations) for each node."""
    scaled = weights if edge_weights is None else weights * edge_weights[:, None]
    ends = np.cumsum([2 + node for node in range(NODES)])
    return np.split(scaled, ends[:-1])


def _best(row: Weights, operations: tuple[str, ...]) -> tuple[float, str]:
    """Return the weight and name of an edge's best operation."""
    real = [place for place, name in enumerate(operations) if name != NONE]
    place = max(real, key=lambda place: (row[place], -place))
    return float(row[place]), operations[place]


def _node(rows: Weights, operations: tuple[str, ...]) -> Node:
    best = [_best(row, operations) for row in rows]
    order = sorted(range(len(rows)), key=lambda source: (-best[source][0], source))
    return tuple((source, best[source][1]) for source in sorted(order[:2]))


def argmax_edges(weights: Weights) -> tuple[int, ...]:
    """Return each edge's best operation, the earlier one on ties: the rule on NAS-Bench-201, where `none` counts."""
    return tuple(int(place) for place in weights.argmax(axis=1))


def connected_edges(weights: Weights) -> tuple[int, ...]:
    """Return the canonical form of `argmax_edges` of NAS-Bench-201's cell (6, 5), with a way from input to output.

    Where `none` is best on all ways, the cell would be at chance, whatever is trained. Then one way is opened, each of
    its edges with its best operation but `none`: the way for which the product of how much more `none` weighs is the
    least, the earlier one on ties. This is ours; the published rule leaves the cell as it is.
    """
    none = OPERATIONS.index(NONE)
    return _connected(argmax_edges(weights), np.delete(weights, none, axis=1), weights[:, none])


def threshold_edges(weights: Weights, threshold: float) -> tuple[int, ...]:
    """Return each edge's best operation where that reaches `threshold`, else `none`, of weights without it (6, 4).

    It is FairDARTS' rule on NAS-Bench-201's cell, whose nodes may have any number of edges.
    """
    real = [place for place, name in enumerate(OPERATIONS) if name != NONE]
    best = zip(weights.argmax(axis=1), weights.max(axis=1), strict=True)
    none = OPERATIONS.index(NONE)
    # An edge of which all is pruned is none, whatever the threshold.
    return tuple(real[int(place)] if strength >= threshold and strength > 0.0 else none for place, strength in best)


def connected_threshold_edges(weights: Weights, threshold: float) -> tuple[int, ...]:
    """Return the canonical form of `threshold_edges` with a way from input to output.

    Where no way is left one is opened as in `connected_edges`, the threshold in the place of what `none` weighs.
    """
    return _connected(threshold_edges(weights, threshold), weights, np.full(len(weights), threshold))


def _connected(edges: tuple[int, ...], real: Weights, bar: Weights) -> tuple[int, ...]:
    """Return a cell with a way; `real` are the weights of all but `none`, `bar` (6,) is what they lost against."""
    chosen, none = list(edges), OPERATIONS.index(NONE)
    if not is_connected(chosen):
        ways = [[edge for edge in way if chosen[edge] == none] for way in _ways(0)]
        excess = np.log(bar) - np.log(real.max(axis=1))
        for edge in min(ways, key=lambda closed: float(excess[closed].sum())):
            best = int(real[edge].argmax())
            chosen[edge] = best + (best >= none)
    return live_cell(chosen)


def _ways(start: int) -> list[list[int]]:
    """Return the ways from a node of NAS-Bench-201's cell to its last one, each as places in EDGES."""
    if start == CELL_NODES - 1:
        return [[]]
    return [[place, *rest] for place, (source, node) in enumerate(EDGES) if source == start for rest in _ways(node)]


def skip_share(cells: dict[str, Cell], skip: str) -> dict[str, int]:
    """Return the number of edges that are skip connections in each kind of cell."""
    return {kind: sum(name == skip for node in cells[kind] for _, name in node) for kind in CELLS}
