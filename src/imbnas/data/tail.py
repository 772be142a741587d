"""The file of the long tail: which rows of the target's training split are kept, and which of them judge subnets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from imbnas.data.stored import read_columns, write_table
from imbnas.errors import UserError

_NAMES = ("train", "validation")


@dataclass(frozen=True)
class LongTail:
    """Kept rows: int64 positions in the target's training split, their labels, and whether each is for validation."""

    rows: np.ndarray
    labels: np.ndarray
    validation: np.ndarray

    def part(self, validation: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and labels of the training or the validation part, in the file's order."""
        chosen = self.validation == validation
        return self.rows[chosen], self.labels[chosen]


def write_longtail(file: Path, tail: LongTail) -> None:
    """Write the columns row, label and split ("train" or "validation")."""
    names = pa.DictionaryArray.from_arrays(pa.array(tail.validation.astype(np.int8)), pa.array(_NAMES))
    columns = {"row": pa.array(tail.rows), "label": pa.array(tail.labels), "split": names}
    write_table(file, pa.table(columns))


def read_longtail(file: Path, labels: np.ndarray) -> LongTail:
    """Read the file and check it against the `labels` (N,) of the target's training split.

    Raises UserError naming the file when it is truncated, foreign, or of another training split.
    """
    table = read_columns(file, {"row": pa.int64(), "label": pa.int64(), "split": pa.string()})
    rows, found = table["row"].to_numpy(), table["label"].to_numpy()
    names = table["split"].unique().to_pylist()
    if not set(names) <= set(_NAMES):
        raise UserError(f"{file}: column 'split' holds {sorted(names)}, expected only {' and '.join(_NAMES)}")
    inside = len(rows) > 0 and rows.min() >= 0 and rows.max() < len(labels)
    if not inside or len(np.unique(rows)) != len(rows) or not np.array_equal(labels[rows], found):
        raise UserError(f"{file}: rows and labels are not those of the target's training split, run `imbnas imbalance`")
    return LongTail(rows, found, table["split"].to_numpy() == "validation")
