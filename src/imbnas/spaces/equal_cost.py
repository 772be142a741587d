"""Random architectures of about the cost of a given one.

A small space is listed. In a large one, a dynamic programme counts for each block the completions whose MACs end
within the window, so that a draw is uniform over them however rare they are; other limits are met by rejection, and
where that fails by weighing the draw towards few parameters, or little latency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from imbnas.spaces.cost import CostTable
from imbnas.spaces.limits import Limits
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import ENUMERABLE, SearchSpace

WINDOW = 0.05
"""Largest difference of MACs, as a share of the given one's, that counts as equal cost."""
TRIES = 200
"""Draws from one window with one weight on parameters."""
BINS = 1024
"""Parts into which the window is divided when completions are counted."""
MOST_BINS = 1 << 18
"""Parts of the whole range of MACs: a window that is tiny beside it is divided into fewer."""
WEIGHTS = (0.0, 8.0, 32.0, 128.0, 512.0)
"""Weights on parameters, and on latency where that is limited, as the logarithm between the fewest and the most."""


@dataclass(frozen=True)
class EqualCost:
    """The architectures of a space within limits, by how near their MACs are to a given number."""

    space: SearchSpace
    table: CostTable
    limits: Limits
    macs: int

    def gap(self, architecture: Architecture) -> float:
        """Return how many more MACs an architecture has, as a share of the given number; negative for fewer."""
        return self.table.cost(architecture).macs / self.macs - 1.0

    def draw(self, rng: np.random.Generator, taken: Set[Architecture]) -> Architecture | None:
        """Return a random architecture of equal cost that is not `taken`; where there is none, one that is near.

        In a space that can be listed that is the nearest, one of them at random, and None when all are taken. In
        another one it is the nearest of TRIES draws from the narrowest window that gives any.
        """
        if self.space.size <= ENUMERABLE:
            return self._from_list(rng, taken)
        for width in self._widths():
            found = self._from_window(rng, taken, width)
            if found is not None:
                return found
        return None

    def _allowed(self, architecture: Architecture) -> bool:
        return self.limits.allow(self.table.cost(architecture))

    @cached_property
    def _listed(self) -> list[tuple[float, Architecture]]:
        """All architectures within the limits with their distance."""
        return [(abs(self.gap(one)), one) for one in self.space.enumerate() if self._allowed(one)]

    def _from_list(self, rng: np.random.Generator, taken: Set[Architecture]) -> Architecture | None:
        left = [entry for entry in self._listed if entry[1] not in taken]
        if not left:
            return None
        nearest = min(distance for distance, _ in left)
        near = [one for distance, one in left if distance <= max(WINDOW, nearest)]
        return near[int(rng.integers(len(near)))]

    def _widths(self) -> Iterator[float]:
        """Yield windows, the first of equal cost and the last of the whole space."""
        least, most = (
            self.table.fixed.macs + sum(end(cost.macs for cost in row) for row in self.table.blocks)
            for end in (min, max)
        )
        whole = max(most / self.macs - 1.0, 1.0 - least / self.macs)
        width = WINDOW
        while True:
            yield width
            if width >= whole:
                return
            width *= 2.0

    def _from_window(self, rng: np.random.Generator, taken: Set[Architecture], width: float) -> Architecture | None:
        low, high = int(np.ceil(self.macs * (1.0 - width))), int(self.macs * (1.0 + width))
        if self.limits.max_macs is not None:
            high = min(high, self.limits.max_macs)
        timed = self.limits.max_latency is not None
        for weight in WEIGHTS if timed or self.limits.max_params is not None else WEIGHTS[:1]:
            sample = window_sampler(self.table, low, high, weight, "latency" if timed else "params")
            if sample is None:
                return None
            near: dict[float, Architecture] = {}
            for _ in range(TRIES):
                found = self.space.canonical(sample(rng))
                if found in taken or not self.space.connected(found) or not self._allowed(found):
                    continue
                distance = abs(self.gap(found))
                if distance > width:
                    continue
                if width <= WINDOW:
                    return found
                near.setdefault(distance, found)
            if near:
                return near[min(near)]
        return None


def window_sampler(
    table: CostTable, low: int, high: int, weight: float = 0.0, figure: Literal["params", "latency"] = "params"
) -> Callable[[np.random.Generator], Architecture] | None:
    """Return a draw from the architectures whose MACs are about from `low` to `high`, None where there are none.

    Each architecture in the window comes with a chance that falls with its parameters or its latency, by `weight`
    between the least and the most that a subnet has; 0 is uniform. MACs are rounded for it: the draw may end up to
    BINS-th parts of the window outside, and none within is left out.
    """
    macs = [np.array([cost.macs for cost in row]) for row in table.blocks]
    others = [np.array([getattr(cost, figure) for cost in row]) for row in table.blocks]
    base = table.fixed.macs + sum(int(row.min()) for row in macs)
    span = sum(int(row.max() - row.min()) for row in macs)
    unit = max(1.0, (high - low) / BINS, span / MOST_BINS)
    steps = [np.rint((row - row.min()) / unit).astype(np.int64) for row in macs]
    slack = len(steps) / 2 + 1
    first, last = int(np.floor((low - base) / unit - slack)), int(np.ceil((high - base) / unit + slack))
    total = sum(int(row.max()) for row in steps)
    if high < low or last < 0 or first > total:
        return None
    spread = sum(int(row.max() - row.min()) for row in others) or 1
    weights = [np.exp(-weight * (row - row.min()) / spread) * table.ways(k) for k, row in enumerate(others)]
    ways = np.zeros(total + 1)
    ways[max(first, 0) : last + 1] = 1.0
    # ways[s]: weight of the completions that carry the sum s into the window, for the blocks behind each one.
    behind = [ways]
    for row, chance in zip(reversed(steps), reversed(weights), strict=True):
        ways = np.zeros_like(behind[-1])
        for step, one in zip(row, chance, strict=True):
            ways[: total + 1 - step] += one * behind[-1][step:]
        behind.append(ways / (ways.max() or 1.0))
    behind = behind[::-1][1:]

    def sample(rng: np.random.Generator) -> Architecture:
        place, chosen = 0, []
        for row, chance, ways in zip(steps, weights, behind, strict=True):
            heights = np.cumsum(chance * ways[place + row])
            choice = min(int(np.searchsorted(heights, rng.random() * heights[-1], side="right")), len(row) - 1)
            place += int(row[choice])
            chosen.append(choice)
        return table.drawn_of(chosen, rng)

    return sample if behind and float(np.max(weights[0] * behind[0][steps[0]])) > 0.0 else None
