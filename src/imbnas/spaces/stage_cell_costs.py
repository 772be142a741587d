"""The costs of cells that are chosen for each stage, with how often they are repeated: listed by what they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imbnas.spaces.cost import Cost, CostTable
from imbnas.spaces.networks import Architecture


@dataclass(frozen=True)
class Group:
    """Choices of a stage that hold the same: some cells, ascending, each with the same choices behind it."""

    cells: tuple[Architecture, ...]
    behind: Architecture


@dataclass(frozen=True)
class StageCellCosts(CostTable):
    """Costs that add up over stages, each of which has very many choices and few different costs.

    `blocks[s]` are the different costs that stage s can have; `groups[s][k]` are all canonical choices whose cost is
    `blocks[s][k]`. `place_of` maps a stage and its choices to the place of their cost, None for choices without a way
    through the cell, which cost nothing. `operations[s][c]` is the cost of operation c in one cell of stage s.
    """

    groups: tuple[tuple[tuple[Group, ...], ...], ...]
    place_of: Callable[[int, Architecture], int | None]
    operations: tuple[tuple[Cost, ...], ...]

    def cost(self, architecture: Architecture) -> Cost:
        """Return the exact cost of a subnet: of what acts in it."""
        width = len(architecture) // len(self.blocks)
        total = self.fixed
        for stage, costs in enumerate(self.blocks):
            place = self.place_of(stage, architecture[stage * width : (stage + 1) * width])
            if place is not None:
                total += costs[place]
        return total

    def ways(self, block: int) -> np.ndarray:
        """Return how many choices of stage `block` have each of its costs."""
        return np.array([sum(len(group.cells) for group in groups) for groups in self.groups[block]], dtype=np.float64)

    def smallest_of(self, places: Sequence[int]) -> Architecture:
        """Return the smallest architecture whose stages have the costs at these places."""
        chosen = (self.groups[stage][place] for stage, place in enumerate(places))
        parts = (min((*group.cells[0], *group.behind) for group in groups) for groups in chosen)
        return tuple(choice for part in parts for choice in part)

    def drawn_of(self, places: Sequence[int], rng: np.random.Generator) -> Architecture:
        """Return a uniformly random one of them."""
        drawn: list[int] = []
        for stage, place in enumerate(places):
            number = int(rng.integers(int(self.ways(stage)[place])))
            for group in self.groups[stage][place]:
                if number < len(group.cells):
                    drawn += [*group.cells[number], *group.behind]
                    break
                number -= len(group.cells)
        return tuple(drawn)
