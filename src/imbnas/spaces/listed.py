"""The costs of a space whose architectures are few enough to be listed, and whose tuples are not all architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imbnas.spaces.cost import Cost, CostTable
from imbnas.spaces.limits import Limits
from imbnas.spaces.networks import Architecture


@dataclass(frozen=True)
class ListedCosts(CostTable):
    """Costs that add up over the choices of a canonical form alone.

    `architectures` are all of the space, ascending; `canonical` maps any tuple to the one that stands for it.
    """

    architectures: tuple[Architecture, ...]
    canonical: Callable[[Architecture], Architecture]

    def cost(self, architecture: Architecture) -> Cost:
        """Return the exact cost of a subnet: of what acts in it."""
        return super().cost(self.canonical(architecture))

    @cached_property
    def macs(self) -> np.ndarray:
        """The MACs of `architectures`, in their order."""
        return self._sums(lambda cost: cost.macs)

    @cached_property
    def params(self) -> np.ndarray:
        """The parameters of `architectures`, in their order."""
        return self._sums(lambda cost: cost.params)

    @cached_property
    def latencies(self) -> np.ndarray:
        """The latencies of `architectures`, in their order."""
        return self._sums(lambda cost: cost.latency)

    def within(self, limits: Limits) -> np.ndarray:
        """Return the places of the architectures that exceed no limit, ascending."""
        return np.flatnonzero(limits.allow_figures(self.macs, self.params, self.latencies))

    def first(self, places: np.ndarray, key: np.ndarray) -> Architecture:
        """Return the architecture with the least key at some places; on ties fewer parameters, the smaller tuple."""
        order = np.lexsort((self.params[places], key[places]))
        return self.architectures[int(places[order[0]])]

    def costs(self) -> list[Cost]:
        """Return the costs of `architectures`, in their order."""
        figures = (self.macs.tolist(), self.params.tolist(), self.latencies.tolist())
        return [Cost(*each) for each in zip(*figures, strict=True)]

    def _sums(self, figure: Callable[[Cost], int]) -> np.ndarray:
        chosen = np.array(self.architectures)
        total = np.full(len(chosen), figure(self.fixed), dtype=np.int64)
        for block, row in enumerate(self.blocks):
            total += np.array([figure(cost) for cost in row])[chosen[:, block]]
        return total
