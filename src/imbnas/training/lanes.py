"""The lanes of trainings side by side: on a GPU a stream each, and the memory that another training would take."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from imbnas.training.gpu_share import memory
from imbnas.training.graph_memory import ROOM

MOST = 8
"""Trainings side by side on a GPU where nobody has said how many: as many as are worth the host's time."""


class Lanes:
    """So many places for trainings that take turns on a processor: nothing tells them apart."""

    def __init__(self, count: int) -> None:
        """Take how many there are."""
        self.count = count

    def lane(self, number: int) -> AbstractContextManager[Any]:
        """Return the context in which the training in a place takes its turns."""
        return nullcontext()

    def has_room(self, begun: int) -> bool:
        """Return whether another training may begin beside `begun` others."""
        return True

    def ended(self, number: int) -> None:
        """Make a place ready for the next training."""

    def recover(self) -> None:
        """Hand back what trainings that have ended had taken."""


class CudaLanes(Lanes):
    """Streams of a GPU: a training warms up, is recorded, played back and fed on its own, never on another's.

    Where memory decides how many there are, a quarter of it stays free, with what those that have begun may still take:
    near its end an allocation fails, and cuDNN then chooses other algorithms, of other bits.
    """

    _streams: dict[torch.device, list[torch.cuda.Stream]] = {}
    """Torch has but 32 of a device and hands them out in turn: more would be the same ones under other names."""

    def __init__(self, count: int, device: torch.device, bounded: bool) -> None:
        """Take the device, and whether `has_room` looks at its memory."""
        super().__init__(count)
        self._device, self._bounded = device, bounded
        made = self._streams.setdefault(device, [])
        made += [torch.cuda.Stream(device) for _ in range(count - len(made))]
        self._free: int | None = None
        self._most = 0
        # What lies on the device already was put there by another stream.
        torch.cuda.synchronize(device)
        if bounded:
            self._free = memory(device)[0]

    def lane(self, number: int) -> AbstractContextManager[Any]:
        """Return the context of a stream."""
        return torch.cuda.stream(self._streams[self._device][number])

    def has_room(self, begun: int) -> bool:
        """Return whether memory is left for another, beside what each that has begun may still take for a recording.

        It is asked once the last one that began has its step recorded: what has gone since then is what one takes.
        """
        if not self._bounded:
            return True
        torch.cuda.synchronize(self._device)
        free, total = memory(self._device)
        assert self._free is not None
        self._most, self._free = max(self._most, self._free - free), free
        return free - (begun + 2) * self._most >= ROOM * total

    def ended(self, number: int) -> None:
        """Wait until the lane is empty."""
        self._streams[self._device][number].synchronize()

    def recover(self) -> None:
        """Hand cached memory back to the GPU."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()


def lanes(together: int | Literal["auto"], device: torch.device | str, trainings: int, processes: int = 1) -> Lanes:
    """Return places for at most so many `trainings` side by side.

    `auto` is one on a processor, where two at a time would not be done sooner, and on a GPU as many as have room. In
    several processes trainings come one after the other: their steps wait for each other.
    """
    device = torch.device(device)
    wanted = (MOST if device.type == "cuda" else 1) if together == "auto" else together
    count = 1 if processes > 1 else max(1, min(wanted, trainings))
    if device.type != "cuda" or count == 1:
        # A training alone stays where it always was: on the device's own stream.
        return Lanes(count)
    number = torch.cuda.current_device() if device.index is None else device.index
    return CudaLanes(count, torch.device("cuda", number), together == "auto")


def workers_each(workers: int, trainings: int) -> int:
    """Return the processes that make batches ahead for each of several trainings; none where there are none."""
    return -(-workers // trainings)
