"""The supernet of cells that are chosen for each stage: all operations on all edges of the most cells of each stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from imbnas.cell_graph import EDGES
from imbnas.spaces.cells import Cell, CellSupernet, ChoiceCell
from imbnas.spaces.networks import Architecture


def parts_of(architecture: Architecture, stages: int) -> list[Architecture]:
    """Return the choices of each stage."""
    width = len(architecture) // stages
    return [tuple(architecture[k : k + width]) for k in range(0, len(architecture), width)]


def cells_used(part: Architecture, most: int) -> int:
    """Return how many cells of a stage are there: `most`, where its choices are those of the edges alone."""
    return part[len(EDGES)] + 1 if len(part) > len(EDGES) else most


def blocks_used(architecture: Architecture, repeats: Sequence[int]) -> list[tuple[int, Architecture | None]]:
    """Return the blocks of a path: the place of each in the supernet, and the cell's choices; None: a reduction."""
    used: list[tuple[int, Architecture | None]] = []
    begin = 0
    for stage, (part, most) in enumerate(zip(parts_of(architecture, len(repeats)), repeats, strict=True)):
        if stage:
            used.append((begin, None))
            begin += 1
        used += [(begin + place, part[: len(EDGES)]) for place in range(cells_used(part, most))]
        begin += most
    return used


class StageSupernet(CellSupernet):
    """All operations on all edges of all cells; an architecture names one per edge, for each stage its own.

    Cells behind a stage's exit are passed over. State keys are those of `CellSupernet`.
    """

    def __init__(
        self, stem: nn.Module, blocks: Iterable[nn.Module], last: nn.Module, head: nn.Linear, repeats: Sequence[int]
    ) -> None:
        """Take the parts, whose channels must fit each other, and the most cells of each stage."""
        super().__init__(stem, blocks, last, head)
        self.repeats = tuple(repeats)

    def steps(self, architecture: Architecture) -> list[nn.Module]:
        """Return the path's modules, stem to pooling; cells are put together anew, of shared operations."""
        modules: list[nn.Module] = []
        for place, cell in blocks_used(architecture, self.repeats):
            block = self.blocks[place]
            modules.append(Cell(block.chosen(cell)) if cell is not None and isinstance(block, ChoiceCell) else block)
        return [self.stem, *modules, self.last, self.pool]

    def shared_steps(self, first: Architecture, second: Architecture) -> int:
        """Return how many steps two different architectures have in common before they part."""
        pairs = zip(blocks_used(first, self.repeats), blocks_used(second, self.repeats), strict=False)
        count = 1
        for one, other in pairs:
            if one != other:
                break
            count += 1
        return count

    def features(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Map images (N, C, H, W) to what the head sees, (N, num_features)."""
        for step in self.steps(architecture):
            x = step(x)
        return x
