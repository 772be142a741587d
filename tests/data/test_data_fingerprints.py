"""The identity of raw data: what the reader takes, told from a touch, a copy or a foreign file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imbnas.data import fingerprints
from imbnas.data.datasets import load_dataset
from imbnas.data.fingerprints import Contents, Reading
from imbnas.errors import UserError

SPLITS: dict[str, str | None] = {"train": None, "validation": None, "test": None}
LISTS: dict[str, str | None] = {"train": "train.txt", "validation": None, "test": "test.txt"}


@pytest.fixture
def root(tmp_path: Path, save_image) -> Path:
    """Return a project with six images of two classes below images/, and lists of them."""
    for k in range(6):
        save_image(f"{'ab'[k % 2]}/{k}.png", k)
    (tmp_path / "images/train.txt").write_text("a/0.png 0\nb/1.png 1\na/2.png 0\nb/3.png 1\n")
    (tmp_path / "images/test.txt").write_text("a/4.png 0\nb/5.png 1\n")
    return tmp_path


def look(root: Path, name: str = "folder") -> Reading:
    found = fingerprints.files_read(name, root / "images", LISTS if name == "list" else SPLITS)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["folder", "list"])
def test_the_step_and_the_planner_agree(root: Path, name: str) -> None:
    splits = LISTS if name == "list" else SPLITS
    images = root / "images"
    dataset, read, contents = fingerprints.read_dataset(name, images, load_dataset(name, images, splits=splits))
    assert read is not None
    assert contents is not None
    assert read == look(root, name)
    assert contents == fingerprints.read_contents(look(root, name))
    assert dataset.train.digests == contents.digests[: len(dataset.train)]
    if dataset.test:
        assert dataset.test.digests == contents.digests[len(dataset.train) :]


def test_foreign_files_are_no_part_of_it(root: Path) -> None:
    before = look(root)
    for file in (".DS_Store", "README", "a/.DS_Store", "a/Thumbs.db", "b/notes.txt"):
        (root / "images" / file).write_text("foreign")
    assert look(root) == before
    (root / "images/cover.png").write_text("foreign")
    for refuse in (look, lambda root: load_dataset("folder", root / "images", splits=SPLITS)):
        with pytest.raises(UserError, match=r"cover\.png: an image outside any class"):
            refuse(root)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("folder", lambda images: (images / "a/0.png").unlink()),
        ("folder", lambda images: shutil.copy(images / "a/0.png", images / "a/9.png")),
        ("folder", lambda images: (images / "a/0.png").rename(images / "a/7.png")),
        ("folder", lambda images: (images / "a/0.png").rename(images / "b/0.png")),
        ("folder", lambda images: (images / "a").rename(images / "c")),
        ("list", lambda images: (images / "test.txt").write_text("b/5.png 1\na/4.png 0\n")),
        ("list", lambda images: (images / "test.txt").write_text("a/4.png 1\nb/5.png 0\n")),
        ("list", lambda images: (images / "test.txt").write_text("a/4.png 0\n")),
    ],
)
def test_what_changes_the_listing(root: Path, name: str, edit: Callable[[Path], object]) -> None:
    before = look(root, name)
    edit(root / "images")
    assert look(root, name).listing != before.listing


def test_lists_that_are_written_otherwise_say_the_same(root: Path) -> None:
    before = look(root, "list")
    text = (root / "images/train.txt").read_text()
    (root / "images/train.txt").write_text("\n" + text.replace(" ", "  ").replace("a/0", "./a/0"))
    assert look(root, "list") == before


def test_only_files_with_another_time_are_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = look(root)
    contents = fingerprints.read_contents(now)
    fingerprints.remember(root, now, contents)
    read: list[str] = []
    plain = fingerprints._read
    monkeypatch.setattr(fingerprints, "_read", lambda file: (read.append(file.name), plain(file))[1])
    told: list[int] = []
    assert fingerprints.present_contents(root, now, contents.digest, told.append) == contents
    assert (read, told) == ([], [])
    os.utime(root / "images/a/2.png", ns=(5, 5))
    found = fingerprints.present_contents(root, now, contents.digest, told.append)
    assert (read, told) == (["2.png"], [1])
    assert found is not None
    assert found.digest == contents.digest
    assert found.times[1] == 5
    fingerprints.remember(root, now, found)
    assert fingerprints.present_contents(root, now, contents.digest) == found
    assert read == ["2.png"]


def test_another_size_is_a_change_that_need_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = look(root)
    contents = fingerprints.read_contents(now)
    fingerprints.remember(root, now, contents)
    old = (root / "images/a/2.png").read_bytes()
    (root / "images/a/2.png").write_bytes(old + b"x")
    monkeypatch.setattr(fingerprints, "_read", lambda file: pytest.fail(f"{file} was read"))
    assert fingerprints.present_contents(root, now, contents.digest) is None
    monkeypatch.undo()
    # Another step has read the file since: to whom has read it before, only a look tells that it is back.
    later = fingerprints.read_contents(now)
    fingerprints.remember(root, now, later)
    (root / "images/a/2.png").write_bytes(old)
    found = fingerprints.present_contents(root, now, contents.digest)
    assert found is not None
    assert found.digest == contents.digest != later.digest


def test_same_size_and_another_content_is_a_change(root: Path) -> None:
    now = look(root)
    contents = fingerprints.read_contents(now)
    fingerprints.remember(root, now, contents)
    path = root / "images/a/2.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = fingerprints.present_contents(root, now, contents.digest)
    assert found is not None
    assert found.digest != contents.digest


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"sizes": 1}', b'{"sizes": [1], "times": [1], "digests": ["a"]}']
)
def test_a_damaged_memory_costs_a_reading_only(root: Path, damage: bytes) -> None:
    now = look(root)
    contents = fingerprints.read_contents(now)
    fingerprints.note(root, root / "data/target/train", now, contents)
    memory, note = (root / ".imbnas/raw" / f"{now.listing}.json"), next((root / ".imbnas/raw/made").iterdir())
    assert fingerprints.recall(root, now) == contents
    memory.write_bytes(damage)
    assert fingerprints.recall(root, now) is None
    assert fingerprints.present_contents(root, now, contents.digest) == contents
    assert fingerprints.noted(root, root / "data/target/train") == (now.listing, contents.digest)
    note.write_bytes(damage)
    assert fingerprints.noted(root, root / "data/target/train") is None


def test_notes_belong_to_outputs_and_few_memories_are_kept(root: Path) -> None:
    contents = Contents([1], [2], ["3"])
    for k in range(20):
        fingerprints.note(root, root / f"study/target/{k}/train", Reading(root, ["x"], f"{k:02d}"), contents)
        os.utime(root / f".imbnas/raw/{k:02d}.json", ns=(k, k))
    assert len(list((root / ".imbnas/raw").glob("*.json"))) <= 17
    assert fingerprints.recall(root, Reading(root, ["x"], "19")) == contents
    assert fingerprints.noted(root, root / "study/target/3/train") == ("03", contents.digest)
    fingerprints.note(root, root / "study/target/3/train", None, None)
    assert fingerprints.noted(root, root / "study/target/3/train") is None


def test_an_npz_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    labels = np.arange(8)[:, None] % 2
    np.savez(tmp_path / "data/a.npz", train_images=np.zeros((8, 4, 4), np.uint8), train_labels=labels)
    found = [fingerprints.files_read("npz", tmp_path / root, SPLITS) for root in ("data", "data/a.npz")]
    assert found == [Reading(tmp_path / "data", ["a.npz"], found[0].listing)] * 2
    loaded = load_dataset("npz", tmp_path / "data")
    assert fingerprints.read_dataset("npz", tmp_path / "data", loaded) == (
        loaded,
        found[0],
        fingerprints.read_contents(found[0]),
    )


def test_torchvision_reads_mnist_unchecked_and_checks_cifar(tmp_path: Path) -> None:
    found = fingerprints.files_read("mnist", tmp_path, SPLITS)
    assert found is not None
    assert found.files[0] == "MNIST/raw/train-images-idx3-ubyte"
    assert len(found.files) == 4
    (tmp_path / "MNIST/processed").mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        (tmp_path / "MNIST/processed" / name).write_text("")
    legacy = fingerprints.files_read("mnist", tmp_path, SPLITS)
    assert legacy is not None
    assert legacy.files == ["MNIST/processed/training.pt", "MNIST/processed/test.pt"]
    assert fingerprints.files_read("cifar10", tmp_path, SPLITS) is None
    assert fingerprints.files_read("digits", tmp_path, SPLITS) is None
