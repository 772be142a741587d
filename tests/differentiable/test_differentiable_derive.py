"""Cells from hand-made weights."""

from __future__ import annotations

import numpy as np

from imbnas.differentiable.derive import (
    argmax_edges,
    connected_edges,
    connected_threshold_edges,
    skip_share,
    strongest_cell,
    threshold_cell,
    threshold_edges,
)
from imbnas.spaces.darts_genotype import edges
from imbnas.spaces.darts_ops import OPERATIONS, SKIP

FAIR = OPERATIONS[1:]


def weights(entries: dict[tuple[int, int, str], float], operations: tuple[str, ...] = OPERATIONS) -> np.ndarray:
    """Return 14 rows of 0.01 with some entries replaced, each named by node, predecessor and operation."""
    table = np.full((14, len(operations)), 0.01)
    for (node, source, name), value in entries.items():
        table[edges().index((node, source)), operations.index(name)] = value
    return table


def test_a_node_keeps_its_two_strongest_edges_and_each_its_best_operation() -> None:
    table = weights(
        {
            (0, 0, "sep_conv_3x3"): 0.3,
            (0, 1, SKIP): 0.2,
            (1, 0, "max_pool_3x3"): 0.5,
            (1, 1, "dil_conv_5x5"): 0.1,
            (1, 2, "dil_conv_3x3"): 0.4,
            (1, 2, "sep_conv_5x5"): 0.39,
            (2, 1, "sep_conv_5x5"): 0.2,
            (2, 3, "avg_pool_3x3"): 0.9,
            (3, 4, SKIP): 0.6,
            (3, 3, "sep_conv_3x3"): 0.7,
        }
    )
    assert strongest_cell(table, OPERATIONS) == (
        ((0, "sep_conv_3x3"), (1, SKIP)),
        ((0, "max_pool_3x3"), (2, "dil_conv_3x3")),
        ((1, "sep_conv_5x5"), (3, "avg_pool_3x3")),
        ((3, "sep_conv_3x3"), (4, SKIP)),
    )


def test_none_neither_wins_an_edge_nor_lends_it_strength() -> None:
    table = weights({(3, source, "none"): 0.9 for source in range(5)})
    table = np.maximum(table, weights({(3, 1, "sep_conv_3x3"): 0.05, (3, 4, "dil_conv_3x3"): 0.04}))
    assert strongest_cell(table, OPERATIONS)[3] == ((1, "sep_conv_3x3"), (4, "dil_conv_3x3"))
    even = strongest_cell(weights({}), OPERATIONS)
    assert even[3] == ((0, "max_pool_3x3"), (1, "max_pool_3x3")), "ties go to the earlier edge and operation"


def test_edge_weights_decide_between_edges_but_not_between_operations() -> None:
    table = weights({(1, 0, "sep_conv_3x3"): 0.5, (1, 1, "sep_conv_5x5"): 0.4, (1, 2, "dil_conv_3x3"): 0.3})
    shares = np.ones(14)
    shares[edges().index((1, 0))] = 0.1
    assert strongest_cell(table, OPERATIONS, shares)[1] == ((1, "sep_conv_5x5"), (2, "dil_conv_3x3"))


def test_fair_darts_keeps_what_reaches_the_threshold_and_never_leaves_a_node_empty() -> None:
    table = weights(
        {
            (0, 0, "sep_conv_3x3"): 0.9,
            (0, 1, SKIP): 0.85,
            (1, 0, "max_pool_3x3"): 0.99,
            (1, 2, "sep_conv_3x3"): 0.84,
            (2, 1, "sep_conv_5x5"): 0.7,
            (2, 3, "avg_pool_3x3"): 0.8,
            (3, 2, SKIP): 0.95,
            (3, 3, SKIP): 0.94,
            (3, 4, "dil_conv_3x3"): 0.93,
        },
        FAIR,
    )
    cell = threshold_cell(table, FAIR, 0.85)
    assert cell == (
        ((0, "sep_conv_3x3"), (1, SKIP)),
        ((0, "max_pool_3x3"),),
        ((3, "avg_pool_3x3"),),
        ((2, SKIP), (3, SKIP)),
    )
    assert skip_share({"normal": cell, "reduce": cell}, SKIP) == {"normal": 3, "reduce": 3}


def test_on_nas_bench_201_every_edge_takes_its_best_operation_none_included() -> None:
    assert argmax_edges(np.array([[0.5, 0.2, 0.3], [0.1, 0.45, 0.45]])) == (0, 1)


def edges_of(nones: dict[int, float], real: int = 3) -> np.ndarray:
    """Return weights in which `none` weighs so much on some edges, and operation `real` more than it elsewhere."""
    weights = np.full((6, 5), 0.05)
    weights[:, real] = 0.3
    weights[:, 0] = [nones.get(edge, 0.1) for edge in range(6)]
    return weights


def test_a_cell_of_edges_keeps_a_way_through() -> None:
    # Edges: 0-1, 0-2, 1-2, 0-3, 1-3, 2-3.
    assert connected_edges(edges_of({3: 0.9, 4: 0.9})) == (3, 3, 3, 0, 0, 3), "0-2-3 is open: nothing is changed"
    # All edges into the output are closed; 1-3 costs least, and 0-1 is open. What enters node 2 leads nowhere.
    assert connected_edges(edges_of({3: 0.9, 4: 0.4, 5: 0.8})) == (3, 0, 0, 0, 3, 0)
    # Two edges of a little excess cost more than one of somewhat more: (0.4 / 0.3)^2 > 0.5 / 0.3.
    closed = {0: 0.4, 1: 0.9, 2: 0.9, 3: 0.5, 4: 0.4, 5: 0.9}
    assert connected_edges(edges_of(closed)) == (0, 0, 0, 3, 0, 0)
    assert connected_edges(edges_of({**closed, 3: 0.6}, real=1)) == (1, 0, 0, 0, 1, 0)


def fair_edges(strengths: list[float], real: int = 3) -> np.ndarray:
    """Return sigmoids of all operations but `none`, the strongest of each edge that of operation `real`."""
    weights = np.full((6, 4), 0.1)
    weights[:, real - 1] = strengths
    return weights


def test_sigmoids_of_a_cell_of_edges_keep_what_reaches_the_threshold() -> None:
    assert threshold_edges(fair_edges([0.9, 0.85, 0.84, 0.2, 0.9, 0.99]), 0.85) == (3, 3, 0, 0, 3, 3)
    mixed = fair_edges([0.9] * 6, real=1)
    mixed[5, 3] = 0.95
    assert threshold_edges(mixed, 0.85) == (1, 1, 1, 1, 1, 4)
    # What does not act is none in the canonical form: 0-1 leads to node 1, from where nothing goes on.
    assert connected_threshold_edges(fair_edges([0.9, 0.9, 0.5, 0.5, 0.5, 0.9]), 0.85) == (0, 3, 0, 0, 0, 3)
    # No way: 0-3 lacks .85 / .4; by node 1, where 0-1 is open, 1-3 lacks .85 / .6.
    assert connected_threshold_edges(fair_edges([0.9, 0.2, 0.2, 0.4, 0.6, 0.2]), 0.85) == (3, 0, 0, 0, 3, 0)
    # Two edges of .7 lack more than one of .6: (.85 / .7)^2 > .85 / .6.
    assert connected_threshold_edges(fair_edges([0.7, 0.2, 0.2, 0.6, 0.7, 0.2]), 0.85) == (0, 0, 0, 3, 0, 0)
    assert connected_threshold_edges(np.full((6, 4), 0.1), 0.1) == (1, 1, 1, 1, 1, 1), "ties go to the earlier one"
