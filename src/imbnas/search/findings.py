"""The knowledge of a search about itself: how sure its choice is, how its scores repeat, what they go along with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbnas.cost_names import ALWAYS, beside
from imbnas.params.search import Choose
from imbnas.search.archive import Archive, Entry
from imbnas.search.marking import Difference, Marking
from imbnas.search.rank_correlation import kendall
from imbnas.seeds import stream
from imbnas.spaces.networks import Architecture


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, the best one, and those within one standard error of it, best first, itself included.

    Without validation rows the chosen one is the best one, and who is near it is not known: `near` is None.
    """

    chosen: Entry
    best: Entry
    near: list[Entry] | None = None


def choose(archive: Archive, rule: Choose, marking: Marking | None) -> Choice:
    """Return what the rule chooses: the best score, or the fewest MACs within one standard error of it.

    The standard error is that of the paired difference to the best one on the same rows. Less latency and then less
    energy come before fewer MACs where they are known. Of equal MACs fewer parameters, then the higher score, then the
    smaller tuple are chosen.
    """
    ranked = archive.ranked()
    best = ranked[0]
    if marking is None:
        return Choice(best, best)
    near = [entry for entry in ranked if _within(marking, difference(marking, best, entry))]
    if rule == "best":
        return Choice(best, best, near)
    return Choice(cheapest(near), best, near)


def cheapest(entries: Sequence[Entry]) -> Entry:
    """Return the entry with the least latency and then energy, where they are known, then the fewest MACs, then the
    fewest parameters, then the highest score.
    """

    def order(entry: Entry) -> tuple[int, int, int, int, float, Architecture]:
        cost = entry.cost
        return cost.latency, cost.energy, cost.macs, cost.params, -entry.score.value, entry.architecture

    return min(entries, key=order)


def difference(marking: Marking, first: Entry, second: Entry) -> Difference:
    """Return the paired difference of two entries that were scored on validation rows."""
    if first.score.right is None or second.score.right is None:
        raise ValueError("found a score without answers, expected scores on validation rows")
    return marking.difference(first.score.right, second.score.right)


def _within(marking: Marking, found: Difference) -> bool:
    # Sums in another order may leave a bit of the last place where both scores are equal.
    return found.value <= found.standard_error + 1e-12


def halves(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of two halves of the rows, drawn within each class; odd rows go to either half in turn."""
    rng = stream(seed, "search", "halves")
    parts: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    turn = 0
    for label in np.unique(labels):
        places = rng.permutation(np.flatnonzero(labels == label))
        middle = (len(places) + turn) // 2
        turn = (turn + len(places)) % 2
        parts[0].append(places[:middle])
        parts[1].append(places[middle:])
    first, second = (np.sort(np.concatenate(part)) for part in parts)
    return first, second


def describe(archive: Archive, choice: Choice, rule: Choose, marking: Marking | None, seed: int) -> dict[str, Any]:
    """Return the content of results/search.json beside what names the search: numbers, and None for the unknown."""
    entries = list(archive.entries.values())
    values = [entry.score.value for entry in entries]
    costs = [entry.cost for entry in entries]
    return {
        "evaluated": len(entries),
        "choose": rule,
        "validation_rows": 0 if marking is None else len(marking.labels),
        "chosen": _candidate(choice.chosen),
        "best": _candidate(choice.best),
        "within_one_error": None if marking is None else _nearness(choice, marking),
        "halves": None if marking is None else _agreement(entries, marking, seed),
        **{
            f"tau_{name.figure}": kendall(values, [getattr(cost, name.figure) for cost in costs])
            for name in (*ALWAYS, *beside(costs))
        },
    }


def unscored() -> dict[str, Any]:
    """Return the same for an architecture that was given, or derived from one continuous search: nothing to compare."""
    names = ("chosen", "best", "within_one_error", "halves", "tau_macs", "tau_params")
    return {"evaluated": 0, "choose": "best", "validation_rows": 0, **dict.fromkeys(names)}


def _candidate(entry: Entry) -> dict[str, Any]:
    return {
        "architecture": list(entry.architecture),
        "score": entry.score.value,
        "standard_error": entry.score.standard_error,
        **{name.column: name.value(entry.cost) for name in (*ALWAYS, *beside([entry.cost]))},
    }


def _nearness(choice: Choice, marking: Marking) -> dict[str, Any]:
    assert choice.near is not None
    found = cheapest(choice.near)
    gap = difference(marking, choice.best, found)
    return {
        "count": len(choice.near),
        "cheapest": {**_candidate(found), "difference": gap.value, "difference_error": gap.standard_error},
    }


def _agreement(entries: Sequence[Entry], marking: Marking, seed: int) -> dict[str, Any]:
    parts = halves(marking.labels, seed)
    if min(map(len, parts)) == 0:
        return {"rows": [len(part) for part in parts], "tau": None}
    scores = [[marking.value_on(entry.score.right or b"", part) for entry in entries] for part in parts]
    return {"rows": [len(part) for part in parts], "tau": kendall(*scores)}
