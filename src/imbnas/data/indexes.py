"""Indexes of images: tables (CSV, Parquet) with the columns path, label, split and group, and iNaturalist's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imbnas.data.image_lists import Lines, checked_path, read_lines
from imbnas.data.table_columns import columns_of, group_names, some_of, texts
from imbnas.errors import UserError
from imbnas.files import LIST_LIMIT, read_text

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
    unread: tuple[str, ...] = ()
    """Columns of the table that mean nothing here."""

    def part(self, chosen: np.ndarray) -> Index:
        """Return the rows at `chosen` places, without the columns that nobody reads."""
        lines = self.lines
        rows = chosen.tolist()
        taken = Lines(
            lines.file, [lines.paths[row] for row in rows], lines.labels[chosen], lines.numbers[chosen], lines.mark
        )
        groups = None if self.groups is None else [self.groups[row] for row in rows]
        return Index(taken, self.names, None, groups)

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
            raise UserError(
                f"{self.lines.place(row)}: label {name!r} is not a class, expected one of {some_of(classes)}"
            )
        return found


def read_index(file: Path) -> Index:
    """Read an index by its file's suffix: a table, iNaturalist's JSON, or else a text file with lines `path label`.

    Raises UserError naming the file and the row of a wrong one.
    """
    suffix = file.suffix.lower()
    if suffix == ".json":
        return _read_json(file)
    return _read_table(file) if suffix in TABLES else Index(read_lines(file))


def _read_table(file: Path) -> Index:
    """Read a table with the columns path, label and perhaps split and group."""
    table = columns_of(file, ("path", "label"), ("split", "group"))
    found = table.found
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
    return Index(Lines(file, paths, labels, rows, _ROW), names, splits, groups, table.unread)


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
