from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from imbnas.data.duplicates import first_occurrence
from imbnas.data.raw import Raw


def test_equal_pixels_share_their_first_row():
    images = np.zeros((6, 4, 4, 1), np.uint8)
    images[[1, 4], 2, 2] = 9
    images[5, 0, 0] = 1
    raw = Raw(np.zeros(6, np.int64), ["a", "b"], images, None, Path())
    assert first_occurrence(raw).tolist() == [0, 1, 0, 0, 1, 5]


def test_files_compare_by_their_whole_content(tmp_path: Path):
    body = bytes(20_000)
    (tmp_path / "a.png").write_bytes(b"x" + body)
    # The same size and the same last bytes as a.png, but another beginning.
    (tmp_path / "b.png").write_bytes(b"y" + body)
    (tmp_path / "c.png").write_bytes(b"z")
    shutil.copy(tmp_path / "b.png", tmp_path / "d.png")
    shutil.copy(tmp_path / "c.png", tmp_path / "e.png")
    paths = ["a.png", "b.png", "c.png", "d.png", "e.png"]
    raw = Raw(np.zeros(5, np.int64), ["a", "b"], None, paths, tmp_path)
    assert first_occurrence(raw).tolist() == [0, 1, 2, 1, 2]
