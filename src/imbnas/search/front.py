"""The accuracy-cost front: the candidates that no other one beats in score and all costs together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imbnas.search.archive import Entry
from imbnas.search.table import with_costs
from imbnas.spaces.networks import Architecture

COLUMNS = pa.schema(
    {
        "architecture": pa.string(),
        "score": pa.float64(),
        "standard_error": pa.float64(),
        "macs": pa.int64(),
        "params": pa.int64(),
        "chosen": pa.bool_(),
    }
)
"""Columns of results/front.parquet, as those of results/search.parquet; there, too, latency and energy may follow."""


Groups = dict[tuple[float, int, int, int, int], list[Entry]]


def pareto(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries that no other one dominates, by ascending MACs, then parameters, then score.

    One dominates another when it is at least as good in score, MACs, parameters and, where they are known, latency
    and energy, and better in one of them: of equals all stay.
    """
    groups: Groups = {}
    for entry in entries:
        cost = entry.cost
        key = (-entry.score.value, cost.macs, cost.params, cost.latency, cost.energy)
        groups.setdefault(key, []).append(entry)
    kept = _undominated_of_many(groups) if any(key[3] or key[4] for key in groups) else _undominated(groups)
    return sorted(kept, key=lambda entry: (entry.cost.macs, entry.cost.params, entry.score.value, entry.architecture))


def _undominated(groups: Groups) -> list[Entry]:
    """Return the entries of the front where operations and parameters are all costs."""
    # Of those that score at least as well: ascending MACs, with the fewest parameters that are to be had for them.
    stairs: list[tuple[int, int]] = []
    kept: list[Entry] = []
    for key in sorted(groups):
        cost = key[1:3]
        place = bisect_right(stairs, cost)
        if place and stairs[place - 1][1] <= cost[1]:
            continue
        kept += groups[key]
        end = place
        while end < len(stairs) and stairs[end][1] >= cost[1]:
            end += 1
        stairs[place:end] = [cost]
    return kept


def _undominated_of_many(groups: Groups) -> list[Entry]:
    """Return the same of any number of costs, by comparing each with all of the front that score at least as well."""
    kept: list[Entry] = []
    keys = sorted(groups)
    # Places among the sorted values compare as the values do, which need not fit into 64 bits.
    places = np.stack([_places(figures) for figures in list(zip(*keys, strict=True))[1:]], axis=1)
    front = np.empty((0, places.shape[1]), dtype=np.int64)
    for key, place in zip(keys, places, strict=True):
        if not (front <= place).all(axis=1).any():
            kept += groups[key]
            front = np.vstack((front, place))
    return kept


def _places(values: Sequence[float]) -> NDArray[np.int64]:
    """Return the place of each value among the different ones, ascending."""
    place = {value: k for k, value in enumerate(sorted(set(values)))}
    return np.array([place[value] for value in values], dtype=np.int64)


def front_table(entries: Iterable[Entry], chosen: Architecture | None) -> pa.Table:
    """Return the front of some entries as a table; without entries, as where an architecture was given, no rows."""
    front = pareto(entries)
    columns: dict[str, Any] = {
        "architecture": ["-".join(map(str, entry.architecture)) for entry in front],
        "score": [entry.score.value for entry in front],
        "standard_error": [entry.score.standard_error for entry in front],
        "macs": [entry.cost.macs for entry in front],
        "params": [entry.cost.params for entry in front],
        "chosen": [entry.architecture == chosen for entry in front],
    }
    return with_costs(pa.table(columns, schema=COLUMNS), [entry.cost for entry in front])
