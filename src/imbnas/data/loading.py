"""Worker processes that make batches of images ahead of the step that wants them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imbnas.data.decode import decode_file
from imbnas.data.draws import Draws
from imbnas.errors import UserError

_GRACE = 10

Early = Callable[[Tensor, Draws], Tensor]
"""The part of an augmentation that a worker does: uint8 (N, C, H, W) to uint8 (N, C, H', W')."""


class Task(NamedTuple):
    """A batch to be made: `positions` (int64) of its rows in a store, and the seed of its augmentation.

    Where they are only a share of a batch, `rows` are their places in it and `total` is its size.
    """

    positions: np.ndarray
    seed: int
    rows: Tensor | None = None
    total: int | None = None


class Made(NamedTuple):
    """Images uint8 (N, C, H, W), and the state of the generator from which their augmentation goes on."""

    images: Tensor
    state: Tensor


class Source(Protocol):
    """Where images lie."""

    def read(self, positions: np.ndarray) -> Tensor:
        """Return images uint8 (N, C, H, W) on the CPU; raise UserError naming one that cannot be read."""
        ...


@runtime_checkable
class AheadStore(Protocol):
    """A store that can make batches ahead of time."""

    @property
    def decodes(self) -> bool:
        """Whether each image is decoded from a file when it is wanted."""
        ...

    def ahead(self, tasks: Iterable[Task], early: Early) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
        """Yield what `early` makes of each task's images, their labels, and the generator after its draws."""
        ...


class Arrays:
    """Rows of an array of images uint8 (N, H, W, C), which may be mapped from a file."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        """Take the array and which of its rows count, in which order."""
        self._images, self._rows = images, rows

    def read(self, positions: np.ndarray) -> Tensor:
        """Return the images at `positions` among the rows."""
        return _channels_first(self._images[self._rows[positions]])


class Files:
    """Image files; the paths lie in one Arrow buffer, which forked workers do not copy."""

    def __init__(self, root: Path, paths: pa.Array, side: int, channels: int) -> None:
        """Take the paths below `root`, and the side in pixels and the channels with which files are decoded."""
        self._root, self._paths, self._side, self._channels = root, paths, side, channels

    def read(self, positions: np.ndarray) -> Tensor:
        """Decode the files at `positions`."""
        files = [self._root / self._paths[int(row)].as_py() for row in positions]
        return _channels_first(np.stack([decode_file(file, self._side, self._channels) for file in files]))


def unchanged(images: Tensor, draws: Draws) -> Tensor:
    """Do nothing ahead of time but read."""
    return images


def made(source: Source, tasks: Iterable[Task], early: Early, workers: int, pin: bool) -> Iterator[Made]:
    """Yield what each task asks for, made by `workers` processes (0: by this one) a few tasks ahead.

    The result does not depend on how many there are. `pin` puts it into memory from which a GPU copies by itself.
    Raises UserError naming an image that cannot be read.
    """
    loader: DataLoader[Made | str] = DataLoader(
        _Work(source, early),
        batch_sampler=tasks,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_as_is,
        pin_memory=pin,
        worker_init_fn=_outlive_signals,
        # Else the loader draws from torch's global generator, on which weights and dropout hang.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, str):
            raise UserError(batch)
        yield batch


class _Work(Dataset[Made | str]):
    """Does tasks; what DataLoader takes for a list of indices is one of them."""

    def __init__(self, source: Source, early: Early) -> None:
        self._source, self._early = source, early

    def __getitems__(self, task: Task) -> Made | str:
        """Return a batch, or the message about a bad image: an exception would arrive with a traceback."""
        try:
            images = self._source.read(task.positions)
        except UserError as error:
            return str(error)
        generator = torch.Generator().manual_seed(task.seed)
        draws = Draws(generator, len(images) if task.total is None else task.total, task.rows)
        return Made(self._early(images, draws), generator.get_state())


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _as_is(batch: Any) -> Any:
    """Take a batch as it was made."""
    return batch


def _outlive_signals(worker: int) -> None:
    """Let a worker live a few seconds after SIGTERM and ignore SIGINT, so that the main process can save its state.

    A scheduler or a terminal signals all processes of a job at once; the main process stops its workers itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(_GRACE))
