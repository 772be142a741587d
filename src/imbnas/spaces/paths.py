"""The paths of a supernet that one optimiser step trains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imbnas.seeds import stream
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace

Passes = Callable[[int], list[tuple[Architecture]]]


def path_sampler(
    space: SearchSpace, sampling: str, seed: int, name: str, extremes: tuple[Architecture, ...] = ()
) -> Passes:
    """Return the function from an optimiser step to its paths, each wrapped as the arguments of one forward pass.

    `uniform`: one path, each architecture with equal chance (Guo et al. 2020). `fair`: as many paths as the widest
    block has choices; every choice of every block is drawn in the step, once in blocks of that width (strict fairness,
    Chu et al. 2021). `sandwich`: the `extremes`, which are the largest and the smallest net, then two uniform paths (Yu
    and Huang 2019). The draw is a function of (seed, name, step).
    """
    samplers: dict[str, Callable[[np.random.Generator], list[Architecture]]] = {
        "uniform": lambda rng: [space.sample(rng)],
        "fair": lambda rng: fair_paths(space, rng),
        "sandwich": lambda rng: [*extremes, space.sample(rng), space.sample(rng)],
    }
    draw = samplers[sampling]
    return lambda step: [(path,) for path in draw(stream(seed, name, "paths", step))]


def fair_paths(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    """Return paths in which every choice of every block occurs, in canonical form, all of them connected.

    Where one is disconnected, all are drawn again: to replace it alone would leave some choices out.
    """
    while True:
        paths = columns(space.choices, rng)
        if all(space.connected(path) for path in paths):
            return [space.canonical(path) for path in paths]


def columns(choices: tuple[int, ...], rng: np.random.Generator) -> list[Architecture]:
    """Return max(choices) tuples in which every choice of every block occurs.

    A block with fewer choices repeats a random selection of them, each as often as the others up to one.
    """
    width = max(choices)
    columns = []
    for count in choices:
        whole, rest = divmod(width, count)
        column = np.concatenate([np.tile(np.arange(count), whole), rng.permutation(count)[:rest]])
        columns.append(rng.permutation(column))
    return [tuple(int(column[k]) for column in columns) for k in range(width)]
