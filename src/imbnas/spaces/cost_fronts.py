"""The cheapest completions of partly chosen architectures, where costs add up over blocks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from imbnas.spaces.limits import Figures
from imbnas.spaces.networks import Architecture

MOST_POINTS = 20_000
"""Points that one front keeps."""


class Point(NamedTuple):
    """A Pareto-optimal completion: its figures, its first choice, and its place in the next block's front."""

    figures: Figures
    choice: int
    rest: int


Front = list[Point]


def cheapest_completions(rows: Sequence[Sequence[Figures]]) -> list[Front]:
    """Return for each block the Pareto-minimal costs of it and all blocks behind it, fewest MACs first.

    One more front, of the single empty completion, ends the list. Equal costs keep the smaller tuple. Fronts are whole
    while they have at most MOST_POINTS points, which costs that rise together are far from.
    """
    fronts: list[Front] = [[Point(Figures(0, 0, 0), 0, 0)]]
    for row in reversed(rows):
        points = sorted(
            (
                Point(added(figures, point.figures), choice, place)
                for choice, figures in enumerate(row)
                for place, point in enumerate(fronts[-1])
            ),
            key=lambda point: point.figures,
        )
        fronts.append(_thinned(_minimal(points)))
    return fronts[::-1]


def added(first: Figures, second: Figures) -> Figures:
    """Return the figures of both parts together."""
    return Figures(first.macs + second.macs, first.params + second.params, first.latency + second.latency)


def trace(fronts: Sequence[Front], place: int) -> Architecture:
    """Follow a point of the first front to its architecture."""
    chosen = []
    for front in fronts[:-1]:
        point = front[place]
        chosen.append(point.choice)
        place = point.rest
    return tuple(chosen)


def _minimal(points: Iterable[Point]) -> Front:
    """Return those of some points, in ascending order of their figures, that no earlier one undercuts or equals."""
    front: Front = []
    # Of those with at most as many MACs: ascending parameters, with the least latency that is to be had for them.
    stairs: list[tuple[int, int]] = []
    for point in points:
        step = point.figures[1:]
        place = bisect_right(stairs, step)
        if place and stairs[place - 1][1] <= step[1]:
            continue
        front.append(point)
        end = place
        while end < len(stairs) and stairs[end][1] >= step[1]:
            end += 1
        stairs[place:end] = [step]
    return front


def _thinned(front: Front) -> Front:
    """Return about MOST_POINTS of a longer front: evenly many, and those with the least of each figure."""
    if len(front) <= MOST_POINTS:
        return front
    least = {min(range(len(front)), key=lambda place: front[place].figures[figure]) for figure in range(3)}
    return [front[place] for place in sorted(least | set(range(0, len(front), -(-len(front) // MOST_POINTS))))]
