"""CSV as every table of this package is written: lines end with LF, and a spreadsheet computes nothing of a name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from imbnas.errors import visible

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(header: Iterable[object], rows: Iterable[Iterable[object]]) -> bytes:
    """Return a table as the bytes of a CSV file, every cell as `csv_cell` shows it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(value) for value in header])
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def csv_cell(value: object) -> object:
    """Return a value as a table of text holds it: what a spreadsheet would compute begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    line = visible(value)
    return f"'{line}" if line.startswith(_FORMULA) and not _is_number(line) else line


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
