"""The paths that a supernet's training takes, for the steps `supernet` and `adapt`."""

from __future__ import annotations

from collections.abc import Sequence

from imbnas.spaces.constraints import Limits, largest, smallest
from imbnas.spaces.paths import Passes, path_sampler
from imbnas.spaces.space import SearchSpace


def training_passes(
    space: SearchSpace, sampling: str, seed: int, name: str, shape: Sequence[int], num_classes: int
) -> Passes:
    """Return the paths of each optimiser step; `sandwich` alone needs the space's largest and smallest net."""
    if sampling != "sandwich":
        return path_sampler(space, sampling, seed, name)
    table = space.cost_table(shape, num_classes)
    return path_sampler(space, sampling, seed, name, (largest(table, Limits()), smallest(table)))
