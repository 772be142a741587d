"""Images for training and evaluation, batch by batch, on the device.

Array images lie on the device as a whole, and a batch is one gather. What takes the processor long, files and policies,
is done by worker processes ahead of time (`loading.py`); the bytes of a batch do not depend on how many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from imbnas.data.loading import Early, Task, made, unchanged
from imbnas.data.raw import Shape
from imbnas.data.sources import Arrays, Files, Source
from imbnas.data.stored import Split


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

        `workers` processes decode files, and do what `ahead` is given. `load_size` is the side in pixels at which files
        are read (`augment.load_side`); None is the split's own shape, the only possibility for arrays.
        """
        chosen = np.arange(len(split)) if rows is None else np.asarray(rows, dtype=np.int64)
        height, width, channels = split.info.shape
        self.device = torch.device(device)
        self.labels = torch.from_numpy(split.index["label"].to_numpy()[chosen].astype(np.int64)).to(self.device)
        self._workers = workers
        self._source: Source
        if split.images is None:
            height = width = load_size or height
            paths = pa.array(split.index["path"].iloc[chosen], type=pa.large_string())
            self._source = Files(split.root or Path(), paths, split.info.reading(height))
        else:
            if load_size not in (None, height):
                raise ValueError(f"load_size is {load_size} for an array of {height} pixels, expected None")
            images = torch.from_numpy(np.array(split.images[chosen]))
            self._images = images.to(self.device).permute(0, 3, 1, 2).contiguous()
            self._source = Arrays(split.images, chosen)
        self.shape = Shape(height, width, channels)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    @property
    def decodes(self) -> bool:
        """Whether each image is decoded from a file when it is wanted."""
        return isinstance(self._source, Files)

    @property
    def side(self) -> tuple[int, int] | None:
        """Height and width of the images that lie on the device; None where they are decoded as they are wanted."""
        return None if self.decodes else (self._images.shape[2], self._images.shape[3])

    def taken(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels at positions (int64, (B,)) on the device, which hold them."""
        return self._images.index_select(0, place), self.labels.index_select(0, place)

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (uint8, (B, C, H, W)) and labels (int64, (B,)) on the device for each array of positions.

        Raises IndexError for a position outside the store, UserError naming a file that cannot be read.
        """
        if not batches:
            return
        if self.decodes:
            tasks = (Task(batch, 0) for batch in batches)
            yield from ((images, labels) for images, labels, _ in self.ahead(tasks, unchanged))
            return
        flat = np.concatenate(batches).astype(np.int64, copy=False)
        self._check(flat)
        # One transfer for all batches.
        for place in torch.from_numpy(flat).to(self.device).split([len(batch) for batch in batches]):
            yield self.taken(place)

    def ahead(self, tasks: Iterable[Task], early: Early) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
        """Yield, on the device, what `early` makes of each task's images, and their labels, some tasks ahead.

        With them comes the generator of the task's seed, after the draws of `early`. Tasks are asked for as they are
        wanted, so that they may go over many epochs. Raises as `batches`.
        """
        pending: deque[np.ndarray] = deque()

        def noted() -> Iterator[Task]:
            for task in tasks:
                self._check(task.positions)
                pending.append(task.positions)
                yield task

        for images, state in made(self._source, noted(), early, self._workers, self.device.type == "cuda"):
            place = torch.from_numpy(pending.popleft()).to(self.device, non_blocking=True)
            generator = torch.Generator().set_state(state)
            yield images.to(self.device, non_blocking=True), self.labels.index_select(0, place), generator

    def ordered(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all rows in order, as `batches` does."""
        rows = np.arange(len(self))
        return self.batches([rows[start : start + batch_size] for start in range(0, len(rows), batch_size)])

    def _check(self, positions: np.ndarray) -> None:
        if len(positions) and not (positions.min() >= 0 and positions.max() < len(self)):
            raise IndexError(f"positions {positions.min()}..{positions.max()}, expected 0..{len(self) - 1}")
