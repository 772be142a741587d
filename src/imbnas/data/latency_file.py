"""Tables of the latencies of a space's blocks, as `imbnas latency` writes and `search.latency` names them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbnas.csv_text import csv_text
from imbnas.errors import UserError
from imbnas.files import RECORD_LIMIT, canonical_json, check_regular, digest_bytes, digest_file, read_text, write_bytes
from imbnas.params.space_options import SpaceParams

BLOCK = "block"
"""The part of a row that times one choice of one block; rows of other parts are in all networks."""
NEEDED = ("stem", "classifier")
"""Parts without which a table leaves out what every network takes."""
SETTING = ("space", "space_digest", "height", "width", "channels", "classes", "batch", "device", "precision", "threads")
"""Columns that hold the same in all rows: what was timed, and how."""
COLUMNS = ("part", BLOCK, "choice", "label", "latency_ns", "spread_ns", *SETTING)
Shape = tuple[int, int, int]
"""Height, width and channels."""


@dataclass(frozen=True)
class BlockLatencies:
    """Nanoseconds of one forward pass: of what all networks share, and of each choice of each block."""

    fixed: int
    blocks: tuple[tuple[int, ...], ...]
    batch: int
    digest: str
    """Of the file."""


def space_digest(space: SpaceParams) -> str:
    """Return a digest of what of the section `space` makes its networks: other spaces' options are left out."""
    tree = space.described
    if space.name == "darts":
        options = {key: tree["darts"][key] for key in ("derived_channels", "derived_layers", "operations")}
        acting = {"stride": tree["stem"]["stride"], **options}
    else:
        acting = {key: tree[key] for key in ("stem", "stages", "last_channels")} | {"own": tree.get(space.name)}
    return digest_bytes(canonical_json({"name": space.name, **acting}).encode())[:16]


def write_latencies(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of COLUMNS as CSV, or as Parquet where the suffix says so, by rename."""
    if file.suffix == ".parquet":
        import pyarrow as pa

        from imbnas.data.stored import write_table

        write_table(file, pa.table({name: [row[name] for row in rows] for name in COLUMNS}))
        return
    write_bytes(file, csv_text(COLUMNS, ([row[name] for name in COLUMNS] for row in rows)))


def read_latencies(file: Path, space: SpaceParams, shape: Shape, classes: int | None = None) -> BlockLatencies:
    """Return the table that `search.latency` names.

    Raises:
        UserError: with one line that names the file, and the row where there is one: it is not such a table, or of
            another space, image size or (where they are known) number of classes, or lacks a block's choice.
    """
    try:
        found = _rows(file)
        _check_setting(found[0], space, shape, classes)
        return _latencies(found, space, digest_file(file))
    except UserError as error:
        raise UserError(f"search.latency: {file}: {error}") from None


def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, all of one measurement."""
    try:
        check_regular(file, RECORD_LIMIT)
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(file)
            names, found = table.column_names, table.to_pylist()
        else:
            reader = csv.DictReader(io.StringIO(read_text(file, RECORD_LIMIT)))
            names, found = list(reader.fieldnames or []), list(reader)
    except FileNotFoundError:
        raise UserError("not found, expected a table that `imbnas latency` writes") from None
    except (OSError, ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"not a table of latencies ({reason}), expected CSV or Parquet") from None
    absent = [name for name in COLUMNS if name not in names and name not in ("label", "spread_ns")]
    if absent or not found:
        lacks = f"has no column {absent[0]}" if absent else "has no rows"
        raise UserError(f"{lacks}, expected a table that `imbnas latency` writes")
    for number, row in enumerate(found[1:], 2):
        for name in SETTING:
            if str(row[name]) != str(found[0][name]):
                raise UserError(
                    f"row {number}: {name} is {row[name]}, and {found[0][name]} in row 1, expected one measurement"
                )
    return found


def _check_setting(row: Mapping[str, Any], space: SpaceParams, shape: Shape, classes: int | None) -> None:
    digest = space_digest(space)
    if (row["space"], row["space_digest"]) != (space.name, digest):
        raise UserError(
            f"is of the space {row['space']} ({row['space_digest']}), expected {space.name} ({digest}) as the section "
            "space says; measure again with `imbnas latency`"
        )
    for name, expected in zip(("height", "width", "channels"), shape, strict=True):
        if _number(row, 1, name) != expected:
            sizes = "x".join(str(row[key]) for key in ("height", "width", "channels"))
            raise UserError(
                f"is of images of {sizes}, expected {'x'.join(map(str, shape))}, as the section target says; measure "
                "again with `imbnas latency`"
            )
    if classes is not None and _number(row, 1, "classes") != classes:
        raise UserError(f"is of {row['classes']} classes, expected {classes}; measure again with `imbnas latency`")


def _latencies(rows: Sequence[Mapping[str, Any]], space: SpaceParams, digest: str) -> BlockLatencies:
    counts = space.choices
    known: dict[tuple[int, int], int] = {}
    fixed = 0
    for number, row in enumerate(rows, 1):
        value = _number(row, number, "latency_ns")
        if row["part"] != BLOCK:
            fixed += value
            continue
        block, choice = _number(row, number, BLOCK), _number(row, number, "choice")
        if not (1 <= block <= len(counts) and 0 <= choice < counts[block - 1]):
            raise UserError(f"row {number}: block {block}, choice {choice}: the space has none such")
        if value < 0:
            raise UserError(f"row {number}: latency_ns is {value}, expected 0 or more")
        if (block, choice) in known:
            raise UserError(f"row {number}: block {block}, choice {choice} is there a second time, expected it once")
        known[block, choice] = value
    for block, count in enumerate(counts, 1):
        for choice in range(count):
            if (block, choice) not in known:
                raise UserError(f"block {block}, choice {choice} is not there, expected a row for each choice")
    for part in NEEDED:
        if part not in {row["part"] for row in rows}:
            raise UserError(f"has no row of the part {part}, which every network has")
    blocks = tuple(tuple(known[block, choice] for choice in range(count)) for block, count in enumerate(counts, 1))
    if fixed + sum(map(min, blocks)) <= 0:
        raise UserError(f"the least of all networks takes {fixed + sum(map(min, blocks))} ns, expected more than 0")
    return BlockLatencies(fixed, blocks, _number(rows[0], 1, "batch"), digest)


def _number(row: Mapping[str, Any], number: int, name: str) -> int:
    """Return a whole number of a row; pandas may have written it as 3.0."""
    value = row[name]
    try:
        found = float(value)
        if found == int(found) and abs(found) < 2**53:
            return int(found)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"row {number}: {name} is {value!r}, expected a whole number")
