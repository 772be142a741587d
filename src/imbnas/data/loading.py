"""Worker processes that make batches of images ahead of the step that wants them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from multiprocessing import active_children
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from imbnas.data.draws import Draws
from imbnas.data.sources import Source
from imbnas.disk import amount
from imbnas.errors import UserError
from imbnas.waiting import OverdueError, StoppedWaiting, asked_to_stop, bounded

SHARED_MEMORY = Path("/dev/shm")
DEADLINE_SECONDS = 600.0
"""How long one batch may take: a stalled network drive comes back within minutes, or never."""
_GRACE = 10
_AHEAD = 2
"""Batches that each worker makes ahead."""

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


def unchanged(images: Tensor, draws: Draws) -> Tensor:
    """Do nothing ahead of time but read."""
    return images


def made(source: Source, tasks: Iterable[Task], early: Early, workers: int, pin: bool) -> Iterator[Made]:
    """Yield what each task asks for, made by `workers` processes (0: by this one) a few tasks ahead.

    The result does not depend on how many there are. `pin` puts it into memory from which a GPU copies by itself.
    Raises UserError naming an image that cannot be read, or the reason why no batch comes from the processes;
    StoppedWaiting where the step was asked to stop and none comes.
    """
    tasks = iter(tasks)
    if workers:
        first = next(tasks, None)
        if first is None:
            return
        check_shared_memory(source.nbytes(len(first.positions)), workers)
        tasks = chain([first], tasks)
    loader: DataLoader[Made | str] = DataLoader(
        _Work(source, early),
        batch_sampler=tasks,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_as_is,
        pin_memory=pin,
        worker_init_fn=_outlive_signals,
        # Else the loader draws from torch's global generator, on which weights and dropout hang.
        generator=torch.Generator(),
        prefetch_factor=_AHEAD if workers else None,
    )
    for batch in _received(loader) if workers else loader:
        if isinstance(batch, str):
            raise UserError(batch)
        yield batch


def check_shared_memory(batch: int, workers: int) -> None:
    """Raise UserError where the batches of `batch` bytes that are on their way do not fit into shared memory."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return
    # One more is in use while the workers are ahead by theirs.
    free, wanted = found.f_bavail * found.f_frsize, (workers * _AHEAD + 1) * batch
    if free < wanted:
        raise UserError(
            f"runtime.workers: found {amount(free)} free in {SHARED_MEMORY} for {workers} workers, expected "
            f"{amount(wanted)}: set runtime.workers: 0, or give the container more (--shm-size)"
        )


def _received(loader: DataLoader[Made | str]) -> Iterator[Made | str]:
    """Yield what the workers make; a wait for them ends with a UserError that names the cause, or at a request to stop.

    A worker that dies, by a signal or for want of memory, or that hangs, cannot say so itself.
    """
    before, handler = set(active_children()), signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    workers = [process for process in active_children() if process not in before]
    if threading.current_thread() is threading.main_thread():
        # torch's handler raises wherever the main process happens to be when a worker dies.
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
    while True:
        try:
            with bounded(DEADLINE_SECONDS):
                batch = next(batches, None)
        except OverdueError:
            for worker in workers:
                worker.kill()
            if asked_to_stop():
                raise StoppedWaiting("asked to stop while waiting for images; run the same command again") from None
            raise UserError(
                f"runtime.workers: no batch came from the workers within {DEADLINE_SECONDS:.0f} s, expected one: is "
                "the drive with the images stalled? With runtime.workers: 0 there are no workers"
            ) from None
        except (RuntimeError, OSError, EOFError):
            codes = [worker.exitcode for worker in workers if worker.exitcode]
            if not codes:
                raise
            if asked_to_stop():
                raise StoppedWaiting("asked to stop, and so were the workers; run the same command again") from None
            raise UserError(_ended(codes[0])) from None
        if batch is None:
            return
        yield batch


def _ended(code: int) -> str:
    """Return the message about a worker that is gone."""
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    why = {-signal.SIGBUS: f"{SHARED_MEMORY} is full", -signal.SIGKILL: "often for want of memory"}.get(code)
    return (
        f"runtime.workers: a worker that makes batches ended {how}{f' ({why})' if why else ''}, expected it to live: "
        "with runtime.workers: 0 there are no workers"
    )


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
        batch = Made(self._early(images, draws), generator.get_state())
        return batch if get_worker_info() is None else _shared(batch)


def _shared(batch: Made) -> Made | str:
    """Move a batch to shared memory, which else happens in a thread that fails unheard; return the message if it fails.

    On its way no byte is copied for this.
    """
    try:
        return Made(batch.images.share_memory_(), batch.state.share_memory_())
    except (RuntimeError, OSError) as error:
        return (
            f"runtime.workers: a batch of {amount(batch.images.nbytes)} does not fit into {SHARED_MEMORY} "
            f"({' '.join(str(error).split())[:200]}), expected room for it: set runtime.workers: 0, or give the "
            "container more (--shm-size)"
        )


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
