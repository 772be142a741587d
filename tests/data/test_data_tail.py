from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imbnas.data.tail import LongTail, read_longtail, write_longtail
from imbnas.errors import UserError

LABELS = np.array([0, 1, 0, 1, 0, 1])
TAIL = LongTail(np.array([4, 0, 5]), np.array([0, 0, 1]), np.array([False, True, False]))


def test_round_trip(tmp_path: Path):
    write_longtail(tmp_path / "x.parquet", TAIL)
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.schema.remove_metadata() == pa.schema([("row", "int64"), ("label", "int64"), ("split", "string")])
    assert table["split"].to_pylist() == ["train", "validation", "train"]
    tail = read_longtail(tmp_path / "x.parquet", LABELS)
    assert [part.tolist() for part in tail.part(False)] == [[4, 5], [0, 1]]
    assert [part.tolist() for part in tail.part(True)] == [[0], [0]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"row": [4, 4], "label": [0, 0], "split": ["train"] * 2}, "rows and labels are not those"),
        ({"row": [4, 6], "label": [0, 0], "split": ["train"] * 2}, "rows and labels are not those"),
        ({"row": [-1, 1], "label": [1, 1], "split": ["train"] * 2}, "rows and labels are not those"),
        ({"row": [4, 1], "label": [0, 0], "split": ["train"] * 2}, "rows and labels are not those"),
        ({"row": [4, 1], "label": [0, 1], "split": ["train", "test"]}, r"column 'split' holds \['test', 'train'\]"),
        ({"row": [4, 1], "label": [0, 1]}, "column 'split' is none, expected string"),
        ({"row": [4, 1], "label": [0, 1], "split": ["train", None]}, "column 'split' has 1 empty values"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "longtail.parquet")
    with pytest.raises(UserError, match=rf"longtail\.parquet: {message}"):
        read_longtail(tmp_path / "longtail.parquet", LABELS)
