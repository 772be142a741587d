"""The files of a truth table: Parquet, CSV with the same rows, and a CSV of seconds, which no comparison uses."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imbnas.csv_text import csv_text
from imbnas.data.stored import write_table
from imbnas.errors import UserError
from imbnas.files import RECORD_LIMIT, TABLE_LIMIT, check_regular, read_text, write_bytes

Row = dict[str, Any]
KEY = ("seed", "architecture", "condition", "device", "precision")
"""The columns that name a training: another device or precision makes another row, which no comparison mixes."""
MADE = ("code", "torch")
"""The columns that say by what a row was computed; rows of different code stand together once they agree."""
FIGURES = (
    *("validation", "test", "many", "medium", "few"),
    *("adjusted_validation", "adjusted_test", "loss", "macs", "params"),
)
"""The columns that a training gives: balanced accuracies, mean recalls of shot groups on the test rows, in [0, 1]."""
SCHEMA = pa.schema(
    {
        "seed": pa.int64(),
        "architecture": pa.string(),
        "condition": pa.string(),
        "space": pa.string(),
        **dict.fromkeys(FIGURES[:-2], pa.float64()),
        "macs": pa.int64(),
        "params": pa.int64(),
        "device": pa.string(),
        "precision": pa.string(),
        "train_rows": pa.string(),
        "validation_rows": pa.string(),
        "test_rows": pa.string(),
        "recipe": pa.string(),
        "code": pa.string(),
        "torch": pa.string(),
    }
)
"""The columns of a table; those that end in `rows`, recipe and code are digests."""
SPENT = ("seed", "architecture", "condition", "device", "precision", "seconds", "processor")
"""The columns of the file of seconds."""


def key_of(row: Row) -> tuple[Any, ...]:
    """Return the key of a row."""
    return tuple(row[name] for name in KEY)


def read_rows(path: Path) -> list[Row]:
    """Return all rows of a table; UserError where the file is damaged, or of another kind."""
    try:
        check_regular(path, TABLE_LIMIT)
        table = pq.ParquetFile(path).read()
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected a table that `make table` wrote") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a table that `make table` wrote ({reason})") from None
    if table.schema.remove_metadata() != SCHEMA:
        odd = sorted(set(table.schema.names) ^ set(SCHEMA.names)) or ["order or types of columns"]
        raise UserError(f"{path}: not a table that `make table` wrote, differs in {', '.join(odd)}")
    rows: list[Row] = table.to_pylist()
    seen: set[tuple[Any, ...]] = set()
    for number, row in enumerate(rows):
        if key_of(row) in seen:
            raise UserError(f"{path}: row {number} has the key of an earlier one ({named(row)}), expected each once")
        seen.add(key_of(row))
    return rows


def named(row: Row) -> str:
    """Return which training a row is of, in words."""
    return f"{row['architecture']}, {row['condition']}, seed {row['seed']}, {row['device']} {row['precision']}"


def write_rows(parquet: Path, text: Path, rows: Sequence[Row]) -> None:
    """Write a table as Parquet and as CSV, whose numbers read back exactly."""
    write_table(parquet, pa.Table.from_pylist(list(rows), schema=SCHEMA))
    write_bytes(text, _csv(SCHEMA.names, rows))


def write_seconds(path: Path, rows: Iterable[Row]) -> None:
    """Write the file of seconds."""
    write_bytes(path, _csv(SPENT, rows))


def read_seconds(path: Path) -> dict[tuple[Any, ...], Row]:
    """Return the seconds of each training by its key, none where there is no such file; UserError for another file."""
    if not path.exists():
        return {}
    found: dict[tuple[Any, ...], Row] = {}
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, RECORD_LIMIT)))
        if tuple(reader.fieldnames or ()) != SPENT:
            raise ValueError(f"columns {', '.join(reader.fieldnames or ())}")
        for line in reader:
            row: Row = {**line, "seed": int(line["seed"]), "seconds": float(line["seconds"])}
            found[key_of(row)] = row
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: not a file of seconds ({error}), expected the columns {', '.join(SPENT)}") from None
    return found


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    return csv_text(columns, ([row[name] for name in columns] for row in rows))
