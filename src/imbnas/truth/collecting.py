"""Writes the files that git keeps from the finished trainings: table, seconds, card."""

from __future__ import annotations

from pathlib import Path

from imbnas.progress import Log
from imbnas.truth.places import Table
from imbnas.truth.records import Records
from imbnas.truth.shards import opened
from imbnas.truth.trained_rows import write_rows, write_seconds
from imbnas.truth.truth_card import write_card
from imbnas.truth.truth_page import write_page
from imbnas.truth.whole_seeds import whole_of


def collect(table: Table, log: Log, page: Path | None = None) -> Records:
    """Write what is finished, in the table's order: seed by seed, whatever order it was trained in.

    Rows of another device or precision stay as the committed table has them; card and page are of this one's.
    `page` is where the page of the whole seeds goes; None writes none.
    """
    records = opened(table)
    kept = [found for cell in records.cells() if (found := records.of(cell)) is not None]
    both = sorted([*kept, *records.others()], key=lambda one: (one.row["device"], one.row["precision"]))
    write_rows(table.beside(".parquet"), table.beside(".csv"), [one.row for one in both])
    write_seconds(table.beside("-seconds.csv"), [one.spent for one in both])
    whole = complete_seeds(records)
    write_card(table.beside(".md"), records, kept, whole)
    if page is not None and whole:
        rows = whole_of([one.row for one in kept if one.row["seed"] < whole], str(table.beside(".parquet")))
        write_page(page, table.name, table.file.parent.as_posix(), rows, table.spec.seeds)
    log(f"{table.beside('.parquet')}: {len(kept)} rows, {whole} of {table.spec.seeds} seeds complete")
    return records


def complete_seeds(records: Records) -> int:
    """Return how many seeds are whole, counted from 0."""
    for seed in range(records.table.spec.seeds):
        if any(cell.seed == seed and records.of(cell) is None for cell in records.cells()):
            return seed
    return records.table.spec.seeds
