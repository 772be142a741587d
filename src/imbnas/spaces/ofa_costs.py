"""The costs of stages whose last two blocks may be left out, the last one only or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imbnas.spaces.cost import Cost, CostTable
from imbnas.spaces.networks import Architecture

WIDTH = 4
"""Blocks of a stage."""


@dataclass(frozen=True)
class TailCosts(CostTable):
    """Costs that add up over blocks, of which the last two of each stage are looked at together.

    A stage has three rows of `blocks`: its first block, its second, and the last two, whose pairs are `(a, b)` for
    each form a of the third block and b of the fourth, which may be `skip`, and `(skip, skip)` behind them.
    `forms` is the number of forms that a block has; `skip` follows them.
    """

    forms: int

    def pair(self, place: int) -> tuple[int, int]:
        """Return the choices of a stage's last two blocks."""
        third, fourth = divmod(place, self.forms + 1)
        return third, self.forms if third == self.forms else fourth

    def _place(self, third: int, fourth: int) -> int:
        # Nothing follows a skip, so that all pairs that begin with one are one.
        return min(third * (self.forms + 1) + fourth, self.forms * (self.forms + 1))

    def cost(self, architecture: Architecture) -> Cost:
        """Return the exact cost of a subnet: of what acts in it."""
        places: list[int] = []
        for begin in range(0, len(architecture), WIDTH):
            first, second, third, fourth = architecture[begin : begin + WIDTH]
            places += [first, second, self._place(third, fourth)]
        return super().cost(tuple(places))

    def smallest_of(self, places: Sequence[int]) -> Architecture:
        """Return the architecture with these entries of `blocks`."""
        chosen: list[int] = []
        for begin in range(0, len(places), 3):
            first, second, tail = places[begin : begin + 3]
            chosen += [first, second, *self.pair(tail)]
        return tuple(chosen)

    def drawn_of(self, places: Sequence[int], rng: np.random.Generator) -> Architecture:
        """Return the only architecture with these entries."""
        return self.smallest_of(places)
