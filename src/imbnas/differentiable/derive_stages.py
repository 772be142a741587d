"""Derivation of an architecture of cells for each stage from relaxed weights."""

from __future__ import annotations

from typing import Any

from imbnas.cell_graph import EDGES, OPERATIONS, is_connected
from imbnas.differentiable import derive as rules
from imbnas.differentiable.mixed_stages import CONV, stage_layout
from imbnas.spaces.relaxed import Relaxed
from imbnas.spaces.stage_cells import StageCellsSpace

SKIP = OPERATIONS.index("skip_connect")


def derived_stages(space: StageCellsSpace, relaxed: Relaxed) -> dict[str, Any]:
    """Return the architecture, each stage's skip connections, and whether a way had to be opened in any.

    Each edge takes its best operation and, for a convolution, its best kernel size; each stage ends at its best exit.
    Until these are searched they are the largest kernel and the last cell. Ties go to the earlier one.
    """
    chosen: list[int] = []
    facts: dict[str, Any] = {"opened": False}
    sizes = space.kernels
    for stage, kind in enumerate(stage_layout(space).kinds):
        weights = relaxed.operations[kind].detach().double().cpu().numpy()
        cell = rules.connected_edges(weights)
        facts["opened"] |= not is_connected(rules.argmax_edges(weights))
        kernels = relaxed.kernels.get(kind)
        places = [len(sizes) - 1] * len(EDGES) if kernels is None else kernels.argmax(dim=1).tolist()
        pairs = zip(cell, places, strict=True)
        chosen += [space.convolution(sizes[place]) if choice == CONV else choice for choice, place in pairs]
        if space.exits:
            exits = relaxed.exits.get(kind)
            chosen.append(space.outline.repeats[stage] - 1 if exits is None else int(exits.argmax()))
        facts[f"skips_{kind}"] = sum(choice == SKIP for choice in cell)
    return {"architecture": chosen, **facts}
