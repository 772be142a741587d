"""The graph of NAS-Bench-201's cell over all 15,625 choices: what its canonical form is, and how many there are."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from imbnas.cell_graph import EDGES, NODES, NONE, OPERATIONS, connected_cells, is_connected, live_cell

CELLS = list(itertools.product(range(len(OPERATIONS)), repeat=len(EDGES)))
SKIP = OPERATIONS.index("skip_connect")


def computed(cell: tuple[int, ...]) -> Any:
    """Return what a cell computes as a term: each edge that carries something, with the term that it carries."""
    nodes: list[Any] = ["input"]
    for node in range(1, NODES):
        entries = [(edge, cell[edge], nodes[source]) for edge, (source, end) in enumerate(EDGES) if end == node]
        nodes.append(tuple(entry for entry in entries if entry[1] != NONE and entry[2] != ()))
    return nodes[-1]


def published(cell: tuple[int, ...], zero: bool) -> str:
    """Return the benchmark's own string of a cell up to isomorphism (`to_unique_str` of its authors' code).

    Skip connections are contracted and the order of edges is dropped. `zero` marks `none`, and what a node with no
    other edge passes on, without dropping the mark.
    """
    nodes = ["input"]
    for node in range(1, NODES):
        words = []
        for choice, (source, end) in zip(cell, EDGES, strict=True):
            if end != node:
                continue
            if zero and (choice == NONE or nodes[source] == "#"):
                words.append("#")
            else:
                words.append(nodes[source] if choice == SKIP else f"({nodes[source]})@{choice}")
        nodes.append("+".join(sorted(words)))
    return nodes[-1]


def test_the_canonical_form_is_idempotent_and_keeps_the_function() -> None:
    forms = {cell: live_cell(cell) for cell in CELLS}
    assert all(live_cell(form) == form for form in forms.values())
    assert all(computed(form) == computed(cell) for cell, form in forms.items())
    assert all(kept in (NONE, choice) for cell, form in forms.items() for choice, kept in zip(cell, form, strict=True))


def test_equal_forms_and_equal_functions_are_the_same_thing() -> None:
    by_form, by_function = defaultdict(set), defaultdict(set)
    for cell in CELLS:
        by_form[live_cell(cell)].add(cell)
        by_function[computed(cell)].add(cell)
    assert sorted(map(sorted, by_form.values())) == sorted(map(sorted, by_function.values()))
    assert len(by_form) == 9_445, "all cells without a way from input to output are one function"


def test_every_operation_of_a_canonical_form_is_on_a_way_and_none_outside_is_lost() -> None:
    ways = [
        way
        for length in range(1, NODES)
        for way in itertools.combinations(range(len(EDGES)), length)
        if [EDGES[edge][0] for edge in way] == [0, *(EDGES[edge][1] for edge in way[:-1])]
        and EDGES[way[-1]][1] == NODES - 1
    ]
    assert len(ways) == 4
    for cell in CELLS:
        acting = {edge for way in ways if all(cell[edge] != NONE for edge in way) for edge in way}
        assert {edge for edge, choice in enumerate(live_cell(cell)) if choice != NONE} == acting
        assert is_connected(cell) == bool(acting)


def test_how_many_cells_there_are() -> None:
    connected = [cell for cell in CELLS if is_connected(cell)]
    assert len(connected) == 15_625 - 341
    assert len(set(map(live_cell, connected))) == connected_cells() == 9_444


def test_the_published_counts_are_coarser_as_they_contract_skip_connections() -> None:
    assert len({published(cell, zero=False) for cell in CELLS}) == 12_751
    assert len({published(cell, zero=True) for cell in CELLS}) == 6_466
    # Ours keeps an operation on the edge that it is on: in a supernet another edge has other weights.
    assert published((1, 0, 3, 0, 0, 1), zero=True) == published((3, 0, 1, 0, 0, 1), zero=True)
    assert live_cell((1, 0, 3, 0, 0, 1)) != live_cell((3, 0, 1, 0, 0, 1))
    # Theirs keeps a mark of what carries nothing: one function, three strings.
    empty = [(0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 3), (3, 3, 3, 0, 0, 0)]
    assert len({published(cell, zero=True) for cell in empty}) == 2
    assert {live_cell(cell) for cell in empty} == {(0,) * 6}
