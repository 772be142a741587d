"""Images for training and evaluation, batch by batch, on the device.

Array images lie on the device as a whole, and a batch is one gather. Files are decoded by the workers of a DataLoader;
the bytes of a batch depend on the files alone, not on how many workers there are.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imbnas.data.decode import decode_file
from imbnas.data.raw import Shape
from imbnas.data.split import Split
from imbnas.errors import UserError

_GRACE = 10


class ImageStore:
    """Rows of a split, in a given order; position i is the i-th of them."""

    def __init__(
        self,
        split: Split,
        rows: np.ndarray | Tensor | None = None,
        device: torch.device | str = "cpu",
        workers: int = 0,
        load_size: int | None = None,
    ) -> None:
        """Take the `rows` (positions in the split; None: all) to `device`.

        `workers` processes decode files; arrays need none. `load_size` is the side in pixels at which files are read
        (`augment.load_side`); None is the split's own shape, the only possibility for arrays.
        """
        chosen = np.arange(len(split)) if rows is None else np.asarray(rows, dtype=np.int64)
        height, width, channels = split.info.shape
        self.device = torch.device(device)
        self.labels = torch.from_numpy(split.index["label"].to_numpy()[chosen].astype(np.int64)).to(self.device)
        self._files: _Files | None = None
        self._workers = workers
        if split.images is None:
            height = width = load_size or height
            paths = pa.array(split.index["path"].iloc[chosen], type=pa.large_string())
            self._files = _Files(split.root or Path(), paths, height, channels)
        else:
            if load_size not in (None, height):
                raise ValueError(f"load_size is {load_size} for an array of {height} pixels, expected None")
            images = torch.from_numpy(np.array(split.images[chosen]))
            self._images = images.to(self.device).permute(0, 3, 1, 2).contiguous()
        self.shape = Shape(height, width, channels)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    @property
    def decodes(self) -> bool:
        """Whether each image is decoded from a file when it is wanted."""
        return self._files is not None

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (uint8, (B, C, H, W)) and labels (int64, (B,)) on the device for each array of positions.

        Raises IndexError for a position outside the store, UserError naming a file that cannot be read.
        """
        if not batches:
            return
        flat = np.concatenate(batches).astype(np.int64, copy=False)
        if len(flat) and not (flat.min() >= 0 and flat.max() < len(self)):
            raise IndexError(f"positions {flat.min()}..{flat.max()}, expected 0..{len(self) - 1}")
        # One transfer for all batches.
        places = torch.from_numpy(flat).to(self.device).split([len(batch) for batch in batches])
        if self._files is None:
            for place in places:
                yield self._images.index_select(0, place), self.labels.index_select(0, place)
        else:
            images = self._decoded(self._files, batches)
            for place, batch in zip(places, images, strict=True):
                yield batch, self.labels.index_select(0, place)

    def ordered(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all rows in order, as `batches` does."""
        rows = np.arange(len(self))
        return self.batches([rows[start : start + batch_size] for start in range(0, len(rows), batch_size)])

    def _decoded(self, files: _Files, batches: Sequence[np.ndarray]) -> Iterator[Tensor]:
        loader: DataLoader[Tensor | str] = DataLoader(
            files,
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self._workers,
            collate_fn=_as_is,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_outlive_signals,
            # Else the loader draws from torch's global generator, on which weights and dropout hang.
            generator=torch.Generator(),
        )
        for batch in loader:
            if isinstance(batch, str):
                raise UserError(batch)
            yield batch.to(self.device, non_blocking=True)


class _Files(Dataset[Tensor]):
    """Image files decoded a batch at a time; the paths lie in one Arrow buffer, which forked workers do not copy."""

    def __init__(self, root: Path, paths: pa.Array, side: int, channels: int) -> None:
        self._root, self._paths, self._side, self._channels = root, paths, side, channels

    def __len__(self) -> int:
        return len(self._paths)

    def __getitems__(self, rows: list[int]) -> Tensor | str:
        """Return a batch of images, or the message about a bad file: an exception would arrive with a traceback."""
        files = [self._root / self._paths[row].as_py() for row in rows]
        try:
            images = np.stack([decode_file(file, self._side, self._channels) for file in files])
        except UserError as error:
            return str(error)
        return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _as_is(batch: Any) -> Any:
    """Take a batch as `__getitems__` made it."""
    return batch


def _outlive_signals(worker: int) -> None:
    """Let a worker live a few seconds after SIGTERM and ignore SIGINT, so that the main process can save its state.

    A scheduler or a terminal signals all processes of a job at once; the main process stops its workers itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(_GRACE))
