"""The truth table of the cells that searches found: a file beside the first table, whose rows it takes over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import yaml

from imbnas.files import write_bytes
from imbnas.params.reading import read
from imbnas.params.truth import architecture_of
from imbnas.progress import Log
from imbnas.truth.collecting import collect
from imbnas.truth.data_rows import prepare
from imbnas.truth.places import Table
from imbnas.truth.planning import trial
from imbnas.truth.records import Cell, Records
from imbnas.truth.shards import agree, opened, train_shard
from imbnas.truth.trained_rows import Row, key_of, read_rows, read_seconds, write_rows, write_seconds

SEEDS = "seeds"
COMMANDS = {SEEDS: "seeds-results", "claims": "search-claims"}
"""The commands that write a table of searches' cells, by the end of its name."""
HEAD = """\
# Written by `make {command}` from {first}: the same data and recipe under one condition, other cells.
# `make table SPEC=tables/{name}` trains what is missing, several at a time.
"""


def write_spec(first: Table, condition: str, cells: Sequence[str], trainings: int, name: str = SEEDS) -> Table:
    """Write the description of the table of some cells beside the first table's, and return that table.

    The digest of the recipe does not cover cells and conditions, so that rows of both tables are the same trainings.
    """
    given, command = read(first.file), COMMANDS[name]
    given |= {
        "about": f"What the cells are worth that the searches of `make {command}` end with; as {first.file.name}.",
        "drawn": "By the searches, and at random as their control.",
        "conditions": {condition: given["conditions"][condition]},
        "seeds": trainings,
        "cells": list(cells),
    }
    file = beside(first.file, name)
    text = HEAD.format(command=command, first=first.file.name, name=file.name) + yaml.safe_dump(
        given, sort_keys=False, width=120
    )
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        write_bytes(file, text.encode())
    return Table(file, first.root, first.data)


def take_over(first: Table, own: Table) -> int:
    """Put the first table's rows of the own table's trainings into the latter's files; return how many were new."""
    source = opened(first)
    kept = [source.of(cell) for cell in Records(own, source.device).cells()]
    parquet, seconds = own.beside(".parquet"), own.beside("-seconds.csv")
    rows: dict[tuple[object, ...], Row] = {key_of(r): r for r in read_rows(parquet)} if parquet.exists() else {}
    spent = dict(read_seconds(seconds))
    new = [one for one in kept if one is not None and key_of(one.row) not in rows]
    for one in new:
        rows[key_of(one.row)], spent[key_of(one.row)] = one.row, one.spent
    if new:
        write_seconds(seconds, spent.values())
        write_rows(parquet, own.beside(".csv"), list(rows.values()))
    return len(new)


def train(lenders: Sequence[Table], own: Table, log: Log) -> None:
    """Train what the own table lacks, seed by seed, and write its files after each seed; others lend their rows."""
    prepare(own)
    for lender in lenders:
        log(f"{take_over(lender, own)} rows taken over from {lender.file}")
    agree(own, log)
    for seed in range(own.spec.seeds):
        train_shard(own, seed, 0, 1, log)
        collect(own, log)


def rows_of(own: Table) -> list[Row]:
    """Return the table's rows on this device."""
    records = opened(own)
    return [kept.row for cell in records.cells() if (kept := records.of(cell)) is not None]


def tables_of(first: Table, condition: str) -> list[Table]:
    """Return the first table and those of searches' cells beside it that are there."""
    tables = [first]
    for name in COMMANDS:
        own = Table(beside(first.file, name), first.root, first.data)
        if own.file.exists() and condition in own.spec.conditions:
            prepare(own)
            tables.append(own)
    return tables


def lacking(first: Table, condition: str, cells: Sequence[str], trainings: int) -> int:
    """Return how many trainings of cells neither the first table has nor those beside it."""
    records = [opened(table) for table in tables_of(first, condition)]
    architectures = [found for cell in cells if (found := architecture_of(cell)) is not None]
    wanted = [Cell(seed, condition, architecture) for seed in range(trainings) for architecture in architectures]
    return sum(all(one.of(cell) is None for one in records) for cell in wanted)


def each_training(first: Table, condition: str, log: Log) -> tuple[float, str]:
    """Return the seconds of a training and their origin: the first table's rows under the condition, or a trial."""
    records = opened(first)
    rows = [kept.spent for cell in records.cells() if (kept := records.of(cell)) is not None]
    spent = [row["seconds"] for row in rows if row["condition"] == condition and row["seconds"]]
    return (mean(spent), f"mean of {len(spent)} of the first table") if spent else (trial(records, log), "a trial")


def beside(path: Path, name: str = SEEDS) -> Path:
    """Return the path of the table of an experiment's cells that belongs to a first table."""
    return path.with_name(f"{path.stem}-{name}{path.suffix}")
