"""Datasets of arrays in MedMNIST's layout: every layout that is published, and what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imbnas.data.arrays import count_rows, read_npz
from imbnas.data.datasets import load_dataset, native_shape
from imbnas.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 6, 6), dtype=np.uint8)
LABELS = (np.arange(12) % 3).astype(np.uint8)


def write(file: Path, **arrays: np.ndarray) -> Path:
    np.savez(file, **{"train_images": GREY, "train_labels": LABELS, **arrays})
    return file


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], LABELS.astype(np.int64)], ids=["flat", "column", "wide"])
@pytest.mark.parametrize("shape", [(12, 6, 6), (12, 6, 6, 1), (12, 6, 6, 3)], ids=str)
def test_every_published_layout_is_read(tmp_path: Path, labels: np.ndarray, shape: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    found = read_npz(write(tmp_path / "a.npz", train_images=images, train_labels=labels), "target")
    raw = found["train"]
    assert raw is not None
    assert raw.images is not None
    assert raw.images.shape == (12, 6, 6, 3 if shape[-1] == 3 else 1)
    assert np.array_equal(raw.images.reshape(shape), images)
    assert (raw.labels.dtype, raw.labels.tolist(), raw.classes) == (np.int64, LABELS.tolist(), ["0", "1", "2"])
    assert (found["validation"], found["test"]) == (None, None)


def test_official_splits_and_names_are_taken_as_they_are(tmp_path: Path) -> None:
    write(
        tmp_path / "b.npz",
        val_images=GREY[:3],
        val_labels=LABELS[:3],
        test_images=GREY[:6],
        test_labels=LABELS[:6],
        class_names=np.array(["cat", "dög", "eel", "fox"][:3]),
    )
    # The directory that holds the one file is as good as the file.
    data = load_dataset("npz", tmp_path)
    assert data.train.classes == ["cat", "dög", "eel"]
    assert data.validation is not None
    assert data.test is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 3, 6)
    assert count_rows(tmp_path) == 12
    assert native_shape("npz", 28, None).channels == 3


def test_sixteen_bits_keep_the_high_ones(tmp_path: Path) -> None:
    deep = (GREY.astype(np.uint16) << 8) + 17
    raw = read_npz(write(tmp_path / "c.npz", train_images=deep), "target")["train"]
    assert raw is not None
    assert raw.images is not None
    assert np.array_equal(raw.images[..., 0], GREY)


BAD = {
    "no training images": ({"train_images": None}, "has no array train_images"),
    "no training arrays": ({"train_images": None, "train_labels": None}, "has no array train_images"),
    "several labels": ({"train_labels": np.zeros((12, 14), np.uint8)}, "has 14 columns, expected one label per image"),
    "floats": ({"train_images": GREY / 255.0}, "train_images is float64 of shape"),
    "two channels": ({"train_images": np.zeros((12, 6, 6, 2), np.uint8)}, "or with 1 or 3 channels"),
    "fewer labels": ({"train_labels": LABELS[:5]}, "train_images has 12 rows and train_labels 5"),
    "a negative label": ({"train_labels": LABELS.astype(np.int8) - 1}, "expected whole numbers from 0"),
    "a huge label": ({"train_labels": LABELS.astype(np.int64) + 2**40}, "expected less than"),
    "a class without images": ({"train_labels": LABELS * 2}, "no image of class '1' found"),
    "half a split": ({"test_images": GREY}, "has no array test_labels"),
    "too few names": ({"class_names": np.array(["a", "b"])}, "a label is 2, expected less than 2"),
    "names twice": ({"class_names": np.array(["a", "b", "a"])}, "names a class twice"),
    "pickled": ({"train_images": np.array([None] * 12)}, "train_images cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_understood_is_refused(tmp_path: Path, name: str) -> None:
    changes, message = BAD[name]
    arrays = {"train_images": GREY, "train_labels": LABELS, **changes}
    file = tmp_path / "d.npz"
    np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(UserError, match=r"d\.npz") as caught:
        read_npz(file, "target")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    whole = write(tmp_path / "e.npz").read_bytes()
    for size in range(0, len(whole), 97):
        (tmp_path / "e.npz").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"e\.npz"):
            read_npz(tmp_path / "e.npz", "target")
        assert count_rows(tmp_path / "e.npz") is None
    flipped = bytearray(whole)
    flipped[300] ^= 255
    (tmp_path / "e.npz").write_bytes(flipped)
    with pytest.raises(UserError, match=r"e\.npz"):
        read_npz(tmp_path / "e.npz", "target")


def test_a_header_that_promises_more_than_any_memory_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 64, 64)})
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("train_images.npy", header.getvalue())
    with pytest.raises(UserError, match=r"f\.npz: train_images"):
        read_npz(tmp_path / "f.npz", "target")


def test_a_directory_without_the_one_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source\.root: .* holds 0 \.npz files"):
        read_npz(tmp_path, "source")
    with pytest.raises(UserError, match=r"g\.npz: not found"):
        read_npz(tmp_path / "g.npz", "source")
