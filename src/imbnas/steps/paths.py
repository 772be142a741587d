"""The paths that a supernet's training takes, for the steps `supernet` and `adapt`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from imbnas.spaces.constraints import Limits, largest, smallest
from imbnas.spaces.paths import path_sampler
from imbnas.spaces.space import SearchSpace


def training_passes(
    space: SearchSpace, sampling: str, seed: int, name: str, shape: Sequence[int], num_classes: int
) -> Callable[[int], Sequence[tuple[Any, ...]]]:
    """Return the arguments of each optimiser step's forward passes: paths, or nothing for a mixture.

    `sandwich` alone needs the space's largest and smallest net.
    """
    if sampling == "mixture":
        return lambda step: [()]
    if sampling != "sandwich":
        return path_sampler(space, sampling, seed, name)
    table = space.cost_table(shape, num_classes)
    return path_sampler(space, sampling, seed, name, (largest(table, Limits()), smallest(table)))
