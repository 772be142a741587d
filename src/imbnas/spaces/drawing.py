"""The graph of an architecture, for drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imbnas.cell_graph import EDGES, OPERATIONS
from imbnas.spaces.darts import DartsSpace
from imbnas.spaces.darts_genotype import CELLS, NODES, decode, source_text
from imbnas.spaces.darts_ops import NONE
from imbnas.spaces.nasbench201 import NasBench201Space
from imbnas.spaces.space import SearchSpace
from imbnas.spaces.stage_cells import StageCellsSpace
from imbnas.spaces.stage_supernet import cells_used, parts_of


@dataclass(frozen=True)
class Graph:
    """A directed graph: its title, and for each edge where it begins, where it ends and what it does ("": nothing)."""

    title: str
    edges: tuple[tuple[str, str, str], ...]


def graphs(space: SearchSpace, architecture: Sequence[int]) -> list[Graph]:
    """Return the cells of an architecture, or a chain of its blocks; raise UserError for a wrong architecture."""
    chosen = space.check(architecture)
    if isinstance(space, DartsSpace):
        return [
            Graph(f"{kind} cell", _darts_edges(cell))
            for kind, cell in zip(CELLS, decode(chosen, space.operations), strict=True)
        ]
    if isinstance(space, NasBench201Space):
        named = [(f"node {a}", f"node {b}", OPERATIONS[c]) for (a, b), c in zip(EDGES, chosen, strict=True)]
        return [Graph("cell", tuple(edge for edge in named if edge[2] != NONE))]
    if isinstance(space, StageCellsSpace):
        return [_stage_graph(space, stage, part) for stage, part in enumerate(parts_of(chosen, space.stages))]
    steps = [line.partition(": ")[::2] for line in space.describe(chosen)]
    places = ["image", *(place for place, _ in steps)]
    return [Graph("blocks", tuple((places[k], places[k + 1], what) for k, (_, what) in enumerate(steps)))]


def _stage_graph(space: StageCellsSpace, stage: int, part: Sequence[int]) -> Graph:
    """Return the cell of a stage, which counts from 0, with how many there are."""
    named = [(f"node {a}", f"node {b}", c) for (a, b), c in zip(EDGES, part[: len(EDGES)], strict=True)]
    count = cells_used(tuple(part), space.outline.repeats[stage])
    title = f"stage {stage + 1} cell, {'once' if count == 1 else f'{count} times'}"
    return Graph(title, tuple((a, b, space.operations[c]) for a, b, c in named if space.operations[c] != NONE))


def _darts_edges(cell: Sequence[Sequence[tuple[int, str]]]) -> tuple[tuple[str, str, str], ...]:
    inner = [
        (source_text(source), f"node {number}", name) for number, node in enumerate(cell, 1) for source, name in node
    ]
    return (*inner, *((f"node {number}", "output", "") for number in range(1, NODES + 1)))
