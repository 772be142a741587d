"""Columns of a table of images (CSV, Parquet) by name; what is nearly such a name is refused, the rest is told of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from imbnas.errors import UserError
from imbnas.files import LIST_LIMIT, open_regular

_ADDED = ("id", "ids", "name", "names", "no", "nr", "number")
"""Ends of a column's name that leave its meaning: group_id is a group."""


@dataclass(frozen=True)
class Columns:
    """Columns of a table by name, and the names of those that nobody reads."""

    found: dict[str, pa.Array]
    unread: tuple[str, ...]


def columns_of(file: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> Columns:
    """Return columns of a table by name; UserError naming the file that cannot be read, or lacks a `required` one.

    Texts stay texts, whatever they look like, in a CSV file; numbers of a Parquet file stay numbers.
    """
    expected = f"expected a table with the columns {' and '.join(required)}"
    try:
        with open_regular(file, LIST_LIMIT) as stream:
            if file.suffix.lower() == ".parquet":
                parquet = pq.ParquetFile(stream)
                there = parquet.schema_arrow.names
                table = parquet.read(columns=[name for name in (*required, *optional) if name in there])
            else:
                texts = dict.fromkeys((*required, *optional), pa.string())
                table = pa.csv.read_csv(stream, convert_options=pa.csv.ConvertOptions(column_types=texts))
                there = table.column_names
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file}: cannot be read as {file.suffix[1:].upper()} ({reason}), {expected}") from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}, {expected}") from None
    # Passed over, a column Group or splits would let rows cross what they are not to cross.
    wanted = [name for name in (*required, *optional) if name not in there]
    alike = next(((name, meant) for name in there for meant in wanted if _resembles(name, meant)), None)
    if alike is not None:
        raise UserError(f"{file}: a column {alike[0]!r}, expected {alike[1]!r} for it, or another name")
    missing = [name for name in required if name not in there]
    if missing:
        raise UserError(f"{file}: no column {missing[0]!r} among {some_of(there)}, {expected}")
    twice = [name for name in (*required, *optional) if there.count(name) > 1]
    if twice:
        raise UserError(f"{file}: {there.count(twice[0])} columns {twice[0]!r}, expected one")
    if not len(table):
        raise UserError(f"{file}: no rows found, {expected}")
    found = {name: table[name].combine_chunks() for name in (*required, *optional) if name in there}
    return Columns(
        {name: _plain(file, name, column) for name, column in found.items()},
        tuple(name or "one without a name" for name in there if name not in found),
    )


def group_names(column: pa.Array) -> list[str]:
    """Return the group of each row, "" where it is empty, without spaces around it."""
    # With them one group would look like two, which different splits may get.
    return [text.strip() for text in texts(column)]


def texts(column: pa.Array) -> list[str]:
    """Return a column as texts, "" where it is empty."""
    found: list[str] = pc.fill_null(column.cast(pa.string()), "").to_pylist()
    return found


def some_of(names: list[str]) -> str:
    """Return the first few of many names."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _plain(file: Path, name: str, column: pa.Array) -> pa.Array:
    """Return a column of texts or whole numbers; UserError for another kind."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise UserError(f"{file}: column {name!r} is {kind}, expected texts or whole numbers")
    return column


def _resembles(name: str, meant: str) -> bool:
    """Return whether a column's name is another one but for case, signs, a plural, an end such as _id, or a slip."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    stems = {plain.removesuffix(end) for end in _ADDED}
    return meant in stems or f"{meant}s" in stems or _one_slip(plain, meant)


def _one_slip(name: str, meant: str) -> bool:
    """Return whether a letter more, less or another, or two that changed places, make a name another one."""
    cuts = [(meant[:place], meant[place:]) for place in range(len(meant) + 1)]
    if any(head + tail[1:] == name or head + tail[1:2] + tail[:1] + tail[2:] == name for head, tail in cuts):
        return True
    ends = [(name[:place], name[place + 1 :]) for place in range(len(name))]
    return any(head + tail == meant or any(head == h and tail == t[1:] for h, t in cuts) for head, tail in ends)
