from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from imbnas.deploy.image_list import image_files
from imbnas.errors import UserError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.png", "a/2.JPG", "a/1.jpeg", "a/deep/3.tif", "a/notes.txt", ".hidden/4.png", "a/.5.png", "[x].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    class Stream:
        buffer = io.BytesIO(content)

    monkeypatch.setattr("sys.stdin", Stream())


def test_a_directory_is_its_images_sorted(tree: Path) -> None:
    assert image_files(["a"]) == ([Path("a/1.jpeg"), Path("a/2.JPG"), Path("a/deep/3.tif")], [])
    assert [file.name for file in image_files([str(tree)])[0]] == ["[x].png", "1.jpeg", "2.JPG", "3.tif", "b.png"]


def test_a_pattern_is_what_it_matches(tree: Path) -> None:
    assert image_files(["a/*"])[0] == [Path("a/1.jpeg"), Path("a/2.JPG")]
    assert image_files([f"{tree}/**/*.tif"])[0] == [tree / "a/deep/3.tif"]
    # A file of that very name is meant first.
    assert image_files(["[x].png"])[0] == [Path("[x].png")]


def test_lists_and_standard_input(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsdecode(b"\xff.png")
    (tree / "list.txt").write_bytes(b"b.png\r\n\n a.png\n\xff.png")
    assert image_files(["first.png"], [Path("list.txt")])[0] == [Path(n) for n in ("first.png", "b.png", " a.png", odd)]
    for place in ({"given": ["-"]}, {"given": [], "lists": [Path("-")]}):
        stdin(monkeypatch, b"x\ny.png\0b.png\0")
        arguments: dict[str, Any] = place
        assert image_files(**arguments)[0] == [Path("x\ny.png"), Path("b.png")]


def test_order_is_kept_and_faults_leave_the_rest(tree: Path) -> None:
    found, faults = image_files(["none.png", "empty", "*.gif", "b.png"])
    assert found == [Path("none.png"), Path("b.png")]
    assert [str(fault) for fault in faults] == [
        "empty: holds no image, expected some in it or below it",
        "*.gif: matches no image, expected some",
    ]


def test_a_list_that_cannot_be_read(tree: Path) -> None:
    with pytest.raises(UserError, match=r"^none\.txt: No such file or directory, expected a list of image files"):
        image_files([], [Path("none.txt")])
