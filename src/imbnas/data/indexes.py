"""Indexes of images: tables (CSV, Parquet) with the columns path, label, split and group, and iNaturalist's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from imbnas.data.image_lists import Lines, checked_path, read_lines
from imbnas.errors import UserError
from imbnas.files import LIST_LIMIT, open_regular, read_text

TABLES = (".csv", ".parquet")
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""What the column split may hold, and the split that it means."""
_ROW = ": row "
_DIGITS = 10
"""A label that is a number has fewer."""


@dataclass(frozen=True)
class Index:
    """The rows of an index: its lines, whose labels are places in `names`, or numbers where that is None.

    `splits` is the split of each row, `groups` its group ("": a group of its own); None where the index has no such
    column.
    """

    lines: Lines
    names: list[str] | None = None
    splits: np.ndarray | None = None
    groups: list[str] | None = None

    def part(self, chosen: np.ndarray) -> Index:
        """Return the rows at `chosen` places."""
        lines = self.lines
        rows = chosen.tolist()
        taken = Lines(
            lines.file, [lines.paths[row] for row in rows], lines.labels[chosen], lines.numbers[chosen], lines.mark
        )
        return Index(taken, self.names, None, None if self.groups is None else [self.groups[row] for row in rows])

    def labels(self, classes: list[str], named: bool) -> np.ndarray:
        """Return the rows' places in `classes`; UserError for a label that is not among them.

        `named` says that classes were called by names: a number is then looked up as one.
        """
        if self.names is None and not named:
            self.lines.check_labels(len(classes))
            return self.lines.labels
        place = {name: number for number, name in enumerate(classes)}
        known = np.unique(self.lines.labels)
        called = [self.names[label] if self.names is not None else str(label) for label in known.tolist()]
        found = np.array([place.get(name, -1) for name in called], dtype=np.int64)[
            np.searchsorted(known, self.lines.labels)
        ]
        wrong = np.flatnonzero(found < 0)
        if len(wrong):
            row = int(wrong[0])
            name = called[int(np.searchsorted(known, self.lines.labels[row]))]
            raise UserError(f"{self.lines.place(row)}: label {name!r} is not a class, expected one of {_some(classes)}")
        return found


def read_index(file: Path) -> Index:
    """Read an index by its file's suffix: a table, iNaturalist's JSON, or else a text file with lines `path label`.

    Raises UserError naming the file and the row of a wrong one.
    """
    suffix = file.suffix.lower()
    if suffix == ".json":
        return _read_json(file)
    return _read_table(file) if suffix in TABLES else Index(read_lines(file))


def columns_of(file: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, pa.Array]:
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
    wanted = {*required, *optional} - {*there}
    # Passed over, a column Group or Split would let rows cross what they are not to cross.
    alike = next((name for name in there if name.strip().lower() in wanted), None)
    if alike is not None:
        raise UserError(f"{file}: a column {alike!r}, expected {alike.strip().lower()!r} for it, or another name")
    missing = [name for name in required if name not in there]
    if missing:
        raise UserError(f"{file}: no column {missing[0]!r} among {_some(there)}, {expected}")
    twice = [name for name in (*required, *optional) if there.count(name) > 1]
    if twice:
        raise UserError(f"{file}: {there.count(twice[0])} columns {twice[0]!r}, expected one")
    if not len(table):
        raise UserError(f"{file}: no rows found, {expected}")
    found = {name: table[name].combine_chunks() for name in (*required, *optional) if name in there}
    return {name: _plain(file, name, column) for name, column in found.items()}


def group_names(column: pa.Array) -> list[str]:
    """Return the group of each row, "" where it is empty, without spaces around it."""
    # With them one group would look like two, which different splits may get.
    return [text.strip() for text in texts(column)]


def texts(column: pa.Array) -> list[str]:
    """Return a column as texts, "" where it is empty."""
    found: list[str] = pc.fill_null(column.cast(pa.string()), "").to_pylist()
    return found


def _plain(file: Path, name: str, column: pa.Array) -> pa.Array:
    """Return a column of texts or whole numbers; UserError for another kind."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise UserError(f"{file}: column {name!r} is {kind}, expected texts or whole numbers")
    return column


def _read_table(file: Path) -> Index:
    """Read a table with the columns path, label and perhaps split and group."""
    found = columns_of(file, ("path", "label"), ("split", "group"))
    rows = np.arange(1, len(found["path"]) + 1)

    def refuse(row: int, fault: str) -> UserError:
        return UserError(f"{file}{_ROW}{row + 1}: {fault}")

    paths = [checked_path(f"{file}{_ROW}{row}", path) for row, path in enumerate(texts(found["path"]), 1)]
    labels, names = _labels(found["label"], refuse)
    splits = None
    if "split" in found:
        said = texts(found["split"])
        wrong = next((row for row, split in enumerate(said) if split not in SPLITS), None)
        if wrong is not None:
            raise refuse(wrong, f"split {said[wrong]!r}, expected train, validation (or val) or test")
        splits = np.array([SPLITS[split] for split in said])
    groups = group_names(found["group"]) if "group" in found else None
    return Index(Lines(file, paths, labels, rows, _ROW), names, splits, groups)


def _labels(column: pa.Array, refuse: Callable[[int, str], UserError]) -> tuple[np.ndarray, list[str] | None]:
    """Return labels as places in sorted names, or as the numbers that all of them are, then with None."""
    called, codes = np.unique(np.array([text.strip() for text in texts(column)]), return_inverse=True)
    names: list[str] = called.tolist()
    if "" in names:
        raise refuse(int(np.argmax(codes == names.index(""))), "no label, expected a class")
    if all(name.isascii() and name.isdigit() and len(name) < _DIGITS and str(int(name)) == name for name in names):
        return np.array([int(name) for name in names], dtype=np.int64)[codes], None
    return codes.astype(np.int64), names


def _read_json(file: Path) -> Index:
    """Read iNaturalist's annotations: images, categories, and one annotation per image."""
    expected = "expected iNaturalist's JSON with images, annotations and categories"
    try:
        tree = json.loads(read_text(file, LIST_LIMIT))
        categories = {one["id"]: str(one.get("name", one["id"])) for one in tree["categories"]}
        order = sorted(categories)
        place = {number: row for row, number in enumerate(order)}
        label_of: dict[int, int] = {}
        for one in tree["annotations"]:
            if label_of.setdefault(one["image_id"], place[one["category_id"]]) != place[one["category_id"]]:
                raise UserError(f"{file}: image {one['image_id']} has several categories, expected one")
        images = [(one["id"], one["file_name"]) for one in tree["images"]]
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}, {expected}") from None
    # A tree of another shape lacks keys, or has lists and texts in the place of mappings.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file}: {type(error).__name__} ({' '.join(str(error).split())[:80]}), {expected}") from None
    lost = next((number for number, _ in images if number not in label_of), None)
    if lost is not None or not images:
        raise UserError(f"{file}: {f'image {lost} has no annotation' if images else 'no images'}, {expected}")
    nameless = next((place for place in images if not isinstance(place[1], str)), None)
    if nameless is not None:
        raise UserError(f"{file}: image {nameless[0]}: file_name is {nameless[1]!r}, {expected}")
    paths = [checked_path(f"{file}: image {number}", path) for number, path in images]
    labels = np.array([label_of[number] for number, _ in images], dtype=np.int64)
    names = [categories[number] for number in order]
    if len(set(names)) < len(names):
        # Common names are given twice; the number tells them apart.
        names = [f"{name} ({number})" for name, number in zip(names, order, strict=True)]
    numbers = np.array([number for number, _ in images])
    return Index(Lines(file, paths, labels, numbers, ": image "), names)


def count_listed(file: Path) -> int:
    """Return about how many rows an index has, without reading it as one."""
    if file.suffix.lower() == ".parquet":
        try:
            return int(pq.ParquetFile(file).metadata.num_rows)
        except (pa.ArrowException, OSError):
            return 0
    mark = b'"image_id"' if file.suffix.lower() == ".json" else b"\n"
    with file.open("rb") as stream:
        # A mark between two pieces is lost, of thousands.
        return sum(piece.count(mark) for piece in iter(lambda: stream.read(1 << 20), b""))


def _some(names: list[str]) -> str:
    """Return the first few of many names."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
