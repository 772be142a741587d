"""Datasets that come as one .npz file of arrays, in the layout of MedMNIST (Yang et al. 2023)."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from imbnas.data.raw import Raw
from imbnas.errors import UserError
from imbnas.files import ARRAYS_LIMIT, check_regular

_SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""The prefix of each split's arrays."""
_NAMES = "class_names"
_DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError, MemoryError)
"""What reading a damaged file raises."""
_LAYOUT = "arrays train_images and train_labels, and maybe val_*, test_* and class_names"


def read_npz(root: Path, section: str) -> dict[str, Raw | None]:
    """Return the splits of an .npz file: training, and validation and test where it has them.

    `root` is the file, or a directory that holds one. `<split>_images` are (N, H, W), (N, H, W, 1) or (N, H, W, 3),
    uint8, or uint16 of which the high byte is kept; `<split>_labels` are whole numbers from 0, (N,) or (N, 1).
    `class_names` (C,) are texts; without it classes are called by their numbers. `section` is named in messages.

    Raises UserError naming the file and the array that is missing, damaged, too large or of another kind, and a class
    without a training image.
    """
    file = npz_file(root, section)
    arrays = _Arrays(file)
    classes = arrays.class_names()
    splits = {split: arrays.split(prefix) for split, prefix in _SPLITS.items()}
    if splits["train"] is None:
        raise UserError(f"{file}: has no array train_images, expected {_LAYOUT}")
    largest = max(int(labels.max()) for _, labels in filter(None, splits.values()))
    if classes is None:
        classes = [str(number) for number in range(largest + 1)]
    elif largest >= len(classes):
        raise UserError(f"{file}: a label is {largest}, expected less than {len(classes)}, the length of {_NAMES}")
    absent = np.flatnonzero(np.bincount(splits["train"][1], minlength=len(classes)) == 0)
    if len(absent):
        raise UserError(
            f"{file}: train_labels: no image of class {classes[absent[0]]!r} found, expected at least one of each "
            f"of {len(classes)} classes"
        )
    return {
        split: None if found is None else Raw(found[1], classes, found[0], None, root)
        for split, found in splits.items()
    }


def npz_file(root: Path, section: str) -> Path:
    """Return the file that `read_npz` reads; UserError where a directory holds none, or several."""
    if not root.is_dir():
        return root
    files = sorted(root.glob("*.npz"))
    if len(files) != 1:
        raise UserError(
            f"{section}.root: {root} holds {len(files)} .npz files, expected one, or the name of the file itself"
        )
    return files[0]


def count_rows(root: Path) -> int | None:
    """Return how many training images an .npz file holds, by its header alone; None where it cannot be told."""
    try:
        with zipfile.ZipFile(npz_file(root, "")) as archive, archive.open("train_images.npy") as stream:
            return int(_header(stream)[0][0])
    except (OSError, UserError, KeyError, IndexError, *_DAMAGED):
        return None


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and the kind of the array in an open .npy file, and leave the file at its first number."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(stream)
    if kind.hasobject:
        raise ValueError("it holds Python objects")
    return shape, kind


@dataclass(frozen=True)
class _Arrays:
    """The arrays of a file, each read when it is asked for."""

    file: Path

    def get(self, name: str) -> np.ndarray | None:
        """Return an array, None where there is none; never a pickled one, and none larger than the file may be."""
        try:
            check_regular(self.file, ARRAYS_LIMIT)
            with zipfile.ZipFile(self.file) as archive:
                member = next((one for one in archive.infolist() if one.filename == f"{name}.npy"), None)
                if member is None:
                    return None
                if member.file_size > ARRAYS_LIMIT:
                    raise UserError(f"{self.file}: {name} has {member.file_size:,} bytes, expected {ARRAYS_LIMIT:,}")
                with archive.open(member) as stream:
                    shape, kind = _header(stream)
                    promised = math.prod(shape) * kind.itemsize
                    if promised != member.file_size - stream.tell():
                        raise ValueError(f"its header promises {promised:,} bytes")
                with archive.open(member) as stream:
                    return np.lib.format.read_array(stream, allow_pickle=False)
        except FileNotFoundError:
            raise UserError(f"{self.file}: not found, expected an .npz file with {_LAYOUT}") from None
        except _DAMAGED as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{self.file}: {name} cannot be read ({reason}), expected {_LAYOUT}") from None
        except OSError as error:
            raise UserError(f"{self.file}: {error.strerror}, expected an .npz file with {_LAYOUT}") from None

    def class_names(self) -> list[str] | None:
        """Return the names of the classes, None where the file does not name them."""
        names = self.get(_NAMES)
        if names is None:
            return None
        if names.dtype.kind not in "US" or names.ndim != 1:
            raise UserError(f"{self.file}: {_NAMES} is {names.dtype} of shape {names.shape}, expected texts (classes,)")
        found = [str(name) if names.dtype.kind == "U" else bytes(name).decode("latin-1") for name in names]
        if len(set(found)) != len(found):
            raise UserError(f"{self.file}: {_NAMES} names a class twice, expected each once")
        return found

    def split(self, prefix: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return images uint8 (N, H, W, C) and labels int64 (N,) of a split, None where it has neither array."""
        images, labels = self.get(f"{prefix}_images"), self.get(f"{prefix}_labels")
        if images is None and labels is None:
            return None
        for name, array in (("images", images), ("labels", labels)):
            if array is None:
                raise UserError(f"{self.file}: has no array {prefix}_{name}, expected it beside the other of its split")
        assert images is not None
        assert labels is not None
        pixels, numbers = self._pixels(f"{prefix}_images", images), self._labels(f"{prefix}_labels", labels)
        if len(pixels) != len(numbers):
            raise UserError(
                f"{self.file}: {prefix}_images has {len(pixels)} rows and {prefix}_labels {len(numbers)}, "
                "expected as many"
            )
        return pixels, numbers

    def _pixels(self, name: str, images: np.ndarray) -> np.ndarray:
        layout = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
        if not layout or images.dtype not in (np.uint8, np.uint16) or 0 in images.shape:
            raise UserError(
                f"{self.file}: {name} is {images.dtype} of shape {images.shape}, expected uint8 or uint16 of shape "
                "(rows, height, width), or with 1 or 3 channels behind, and no side of 0"
            )
        if images.dtype == np.uint16:
            images = (images >> 8).astype(np.uint8)
        return images if images.ndim == 4 else images[..., None]

    def _labels(self, name: str, labels: np.ndarray) -> np.ndarray:
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim == 2:
            raise UserError(
                f"{self.file}: {name} has {labels.shape[1]} columns, expected one label per image: data with several "
                "labels per image is not classified here"
            )
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or int(labels.min()) < 0:
            raise UserError(
                f"{self.file}: {name} is {labels.dtype} of shape {labels.shape}, expected whole numbers from 0, (rows,)"
            )
        if int(labels.max()) >= 2**31:
            raise UserError(f"{self.file}: {name}: a label is {int(labels.max())}, expected less than {2**31}")
        return labels.astype(np.int64)
