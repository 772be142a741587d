"""The table of candidates that a search leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from imbnas.candidate_columns import CANDIDATE
from imbnas.cost_names import beside
from imbnas.search.archive import Archive
from imbnas.spaces.cost import Cost
from imbnas.spaces.networks import Architecture

COLUMNS = pa.schema(CANDIDATE)
"""Columns of results/search.parquet.

A score that was not measured on validation rows has neither an error nor accuracies. Where blocks were timed, or
energy is known, the columns of these costs follow (`cost_names.BESIDE`).
"""


def with_costs(table: pa.Table, costs: Sequence[Cost]) -> pa.Table:
    """Return a table with a last column for each cost that is known besides operations and parameters."""
    for name in beside(costs):
        table = table.append_column(name.column, pa.array([name.value(cost) for cost in costs], pa.float64()))
    return table


def candidate_table(archive: Archive, chosen: Architecture) -> pa.Table:
    """Return one row for each evaluated architecture, in the order of evaluation; the best score has rank 1."""
    rank = {entry.architecture: place for place, entry in enumerate(archive.ranked(), 1)}
    entries = list(archive.entries.values())
    columns: dict[str, Any] = {
        "evaluation": list(range(len(entries))),
        "generation": [entry.generation for entry in entries],
        "architecture": ["-".join(map(str, entry.architecture)) for entry in entries],
        "score": [archive.value(entry.architecture) for entry in entries],
        "standard_error": [entry.score.standard_error for entry in entries],
        "balanced_accuracy": [entry.score.balanced_accuracy for entry in entries],
        "accuracy": [entry.score.accuracy for entry in entries],
        "worst_class": [entry.score.worst_class for entry in entries],
        "macs": [entry.cost.macs for entry in entries],
        "params": [entry.cost.params for entry in entries],
        "rank": [rank[entry.architecture] for entry in entries],
        "chosen": [entry.architecture == chosen for entry in entries],
    }
    return with_costs(pa.table(columns, schema=COLUMNS), [entry.cost for entry in entries])


def given_table(architecture: Architecture, cost: Cost) -> pa.Table:
    """Return the single row of an architecture that was given, not searched: it has a cost and no score."""
    given: dict[str, Any] = {
        "evaluation": 0,
        "generation": 0,
        "architecture": "-".join(map(str, architecture)),
        "macs": cost.macs,
        "params": cost.params,
        "rank": 1,
        "chosen": True,
    }
    return with_costs(pa.table({name: [given.get(name)] for name in COLUMNS.names}, schema=COLUMNS), [cost])
