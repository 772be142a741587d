"""The places from which images are read, by positions of their rows: an array, or files that are decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from imbnas.data.decode import decode_file
from imbnas.data.raw import Reading


class Source(Protocol):
    """A place from which images are read: an array or files."""

    def read(self, positions: np.ndarray) -> Tensor:
        """Return images uint8 (N, C, H, W) on the CPU; raise UserError naming one that cannot be read."""
        ...

    def nbytes(self, rows: int) -> int:
        """Return the bytes of so many images."""
        ...


class Arrays:
    """Rows of an array of images uint8 (N, H, W, C), which may be mapped from a file."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        """Take the array and which of its rows count, in which order."""
        self._images, self._rows = images, rows

    def read(self, positions: np.ndarray) -> Tensor:
        """Return the images at `positions` among the rows."""
        return _channels_first(self._images[self._rows[positions]])

    def nbytes(self, rows: int) -> int:
        """Return the bytes of so many images."""
        return rows * int(np.prod(self._images.shape[1:]))


class Files:
    """Image files; the paths lie in one Arrow buffer, which forked workers do not copy."""

    def __init__(self, root: Path, paths: pa.Array, reading: Reading) -> None:
        self._root, self._paths, self._reading = root, paths, reading

    def read(self, positions: np.ndarray) -> Tensor:
        """Decode the files at `positions`."""
        files = [self._root / self._paths[int(row)].as_py() for row in positions]
        return _channels_first(np.stack([decode_file(file, self._reading) for file in files]))

    def nbytes(self, rows: int) -> int:
        """Return the bytes of so many images."""
        return rows * self._reading.load_side**2 * self._reading.channels


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
