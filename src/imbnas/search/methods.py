"""Proposals of candidates: random, exhaustive, fixed, and evolution over the space's mutation and crossover."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from imbnas.params.search import SearchParams
from imbnas.search.archive import Archive
from imbnas.seeds import stream
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace

TRIES = 100
"""Proposals per candidate that may fail (already known, or over a limit) before a random one is taken."""


@dataclass(frozen=True)
class Field:
    """The field of a search: the space, a test whether an architecture is within the limits, and a feasible draw.

    `excess` says how far an architecture is over each limit, as a fraction of it; nothing above zero means feasible.
    `largest` returns the feasible architecture with the most operations, or parameters. `listed` are all feasible
    architectures where a table names the candidates; None: whatever the space holds within the limits.
    """

    space: SearchSpace
    allowed: Callable[[Architecture], bool]
    draw: Callable[[np.random.Generator], Architecture]
    excess: Callable[[Architecture], tuple[float, ...]] = lambda architecture: ()
    largest: Callable[[Literal["macs", "params"]], Architecture] | None = None
    listed: Sequence[Architecture] | None = None


SearchMethod = Callable[[Field, Archive, SearchParams, int], None]
"""Evaluates architectures of a field in an archive, as the parameters say, with draws that depend on the seed alone."""


def random_search(field: Field, archive: Archive, candidates: int, seed: int) -> None:
    """Evaluate `candidates` different feasible architectures, fewer when there are not so many."""
    rng = stream(seed, "search", "random")
    archive.evaluate(_distinct(field, set(), candidates, rng), 0)


def exhaustive(field: Field, archive: Archive) -> None:
    """Evaluate every feasible architecture of a space small enough to enumerate."""
    archive.evaluate(list(_feasible(field)), 0)


def evolution(
    field: Field,
    archive: Archive,
    *,
    population: int,
    generations: int,
    parents: int,
    mutation: float,
    seed: int,
) -> None:
    """Evolve as in Guo et al. 2020, algorithm 1: the best so far breed by mutation and by crossover, half and half.

    Generation 0 is random. Every candidate is new and feasible: where breeding finds none, a random one is taken;
    where none is left, the search ends. Each generation has its own random stream.
    """
    for generation in range(generations):
        rng = stream(seed, "search", "evolution", generation)
        seen = set(archive.entries)
        children: list[Architecture] = []
        if generation:
            best = [entry.architecture for entry in archive.ranked()[:parents]]
            mutant, child = _offspring(field, best, rng, mutation)
            children += _breed(field, seen, population // 2, mutant)
            children += _breed(field, seen | set(children), population - population // 2, child)
        children += _distinct(field, seen | set(children), population - len(children), rng)
        if not children:
            return
        archive.evaluate(children, generation)


def _offspring(
    field: Field, best: list[Architecture], rng: np.random.Generator, mutation: float
) -> tuple[Callable[[], Architecture], Callable[[], Architecture]]:
    """Return the two ways to breed from the best: a mutant of one, a child of two."""

    def mutant() -> Architecture:
        return field.space.mutate(_pick(best, rng), rng, mutation)

    def child() -> Architecture:
        return field.space.crossover(_pick(best, rng), _pick(best, rng), rng)

    return mutant, child


def _pick(best: list[Architecture], rng: np.random.Generator) -> Architecture:
    return best[int(rng.integers(len(best)))]


def _breed(
    field: Field, seen: set[Architecture], count: int, propose: Callable[[], Architecture]
) -> list[Architecture]:
    """Return up to `count` new feasible proposals within a bounded number of tries."""
    children: dict[Architecture, None] = {}
    for _ in range(TRIES * count):
        if len(children) == count:
            break
        child = propose()
        if child not in seen and child not in children and field.allowed(child):
            children[child] = None
    return list(children)


def _distinct(field: Field, seen: set[Architecture], count: int, rng: np.random.Generator) -> list[Architecture]:
    """Return `count` random feasible architectures that are not in `seen`, fewer only when no more exist.

    Random draws come first; when they keep hitting known ones, a small space is listed and the rest drawn from what
    is left.
    """
    chosen = _breed(field, seen, count, lambda: field.draw(rng))
    if len(chosen) < count and (field.listed is not None or field.space.size <= 100_000):
        left = [a for a in _feasible(field) if a not in seen and a not in set(chosen)]
        order = rng.permutation(len(left))[: count - len(chosen)]
        chosen += [left[int(k)] for k in order]
    return chosen


def _feasible(field: Field) -> Iterator[Architecture]:
    return (a for a in (field.space.enumerate() if field.listed is None else field.listed) if field.allowed(a))


def _evolution(field: Field, archive: Archive, params: SearchParams, seed: int) -> None:
    evolution(
        field,
        archive,
        population=params.population,
        generations=params.generations,
        parents=params.parents,
        mutation=params.mutation,
        seed=seed,
    )


def _most(cost: Literal["macs", "params"]) -> SearchMethod:
    """Return the method that evaluates the largest feasible architecture alone, by one of its costs."""

    def search(field: Field, archive: Archive, params: SearchParams, seed: int) -> None:
        if field.largest is None:
            raise ValueError("found a field without a largest architecture")
        archive.evaluate([field.largest(cost)], 0)

    return search


def _random(field: Field, archive: Archive, params: SearchParams, seed: int) -> None:
    random_search(field, archive, params.candidates, seed)


# Optuna takes half a second to import, and only these two methods need it.
def _tpe(field: Field, archive: Archive, params: SearchParams, seed: int) -> None:
    from imbnas.search.optuna_methods import tpe

    tpe(field, archive, params.candidates, seed)


def _nsga2(field: Field, archive: Archive, params: SearchParams, seed: int) -> None:
    from imbnas.search.optuna_methods import nsga2

    nsga2(field, archive, params.population, params.generations, seed)


METHODS: dict[str, SearchMethod] = {
    "evolution": _evolution,
    "random": _random,
    "exhaustive": lambda field, archive, params, seed: exhaustive(field, archive),
    "tpe": _tpe,
    "nsga2": _nsga2,
    "macs": _most("macs"),
    "params": _most("params"),
    # What tells them from `random` is what their candidates are scored by: search/proxies.py.
    "synflow": _random,
    "jacobian": _random,
}
"""Every `search.method` that scores candidates."""
