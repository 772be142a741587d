"""The costs of a space whose choices come in groups, one for each stage, and add up over the groups alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imbnas.spaces.cost import Cost, CostTable
from imbnas.spaces.networks import Architecture


@dataclass(frozen=True)
class StagedCosts(CostTable):
    """Costs that add up over stages, each of which has several choices and few different costs.

    `blocks[s]` are the different costs that stage s can have, in the order of the smallest of their parts;
    `parts[k]` are all canonical parts whose cost is `blocks[s][k]`, ascending, in every stage the same ones;
    `cost_of` maps the choices of one stage to the place of their cost in `blocks`, whether they are canonical or not.
    """

    parts: tuple[tuple[Architecture, ...], ...]
    cost_of: Callable[[Architecture], int]

    def cost(self, architecture: Architecture) -> Cost:
        """Return the exact cost of a subnet: of what acts in it."""
        width = len(architecture) // len(self.blocks)
        total = self.fixed
        for stage, costs in enumerate(self.blocks):
            total += costs[self.cost_of(architecture[stage * width : (stage + 1) * width])]
        return total

    def ways(self, block: int) -> np.ndarray:
        """Return how many architectures of stage `block` have each of its costs."""
        return np.array([len(parts) for parts in self.parts], dtype=np.float64)

    def smallest_of(self, places: Sequence[int]) -> Architecture:
        """Return the smallest architecture whose stages have the costs at these places."""
        return tuple(choice for place in places for choice in self.parts[place][0])

    def drawn_of(self, places: Sequence[int], rng: np.random.Generator) -> Architecture:
        """Return a uniformly random one of them."""
        chosen = [self.parts[place][int(rng.integers(len(self.parts[place])))] for place in places]
        return tuple(choice for part in chosen for choice in part)
