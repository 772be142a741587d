"""Trainings in turn: one thread gives each of several trainings one optimiser step after the other.

On a GPU each has a stream of its own, so that what one step asks for is computed while the next one is asked for, and
small networks share the card. None of them reads what another writes: each ends in the bytes in which it ends alone,
and resumes and fails alone (docs/decisions/0037).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from imbnas.errors import Interrupted
from imbnas.training.lanes import Lanes

T = TypeVar("T")
Turns = Generator[int, None, T]
"""Work that stops after each optimiser step and yields the images that it took; 0 where it has but begun."""
Trainings = Generator[Turns[list[float]], list[float], T]
"""Work whose trainings its caller makes: it yields each one's turns, and is sent the loss of each of its epochs.

While one is made, the frames of this work are not below it: a traceback out of a loss stays short.
"""
WARM = 5
"""Steps that a training takes before the next one begins: on a GPU its step is recorded by then, for which all wait."""
_STARVED = ("out of memory", "ALLOC_FAILED")
"""Words in the messages of CUDA and its libraries about memory that they ask for past torch."""
_BROKEN = ("CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS", "device-side assert")
"""Words in torch's messages about a device of which nobody knows the state."""


def finished(work: Trainings[T]) -> T:
    """Make all trainings of some work at once and return its result."""
    sent: Any = None
    while True:
        try:
            turns = work.send(sent)
        except StopIteration as end:
            result: T = end.value
            return result
        sent = yet = object()
        while sent is yet:
            try:
                next(turns)
            except StopIteration as end:
                sent = end.value


def stepwise(begin: Callable[[], Trainings[T]]) -> Turns[T]:
    """Begin some work, make its trainings turn by turn, and return its result."""
    work = begin()
    sent: Any = None
    while True:
        try:
            turns = work.send(sent)
        except StopIteration as end:
            result: T = end.value
            return result
        sent = yield from turns


class Clock:
    """The seconds of one of several trainings: of the steps side by side by its share of the images, else its own."""

    def __init__(self) -> None:
        """Begin with none."""
        self.seconds = 0.0
        self.turn = 0.0
        """Those of the last turn."""
        self._since: float | None = None

    def __call__(self) -> float:
        """Return the seconds so far, those of an unfinished turn included."""
        return self.seconds + (0.0 if self._since is None else time.monotonic() - self._since)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the turn that is being taken."""
        self._since = begin = time.monotonic()
        try:
            yield
        finally:
            self.turn, self._since = time.monotonic() - begin, None


@dataclass(eq=False)
class Job(Generic[T]):
    """One of several trainings: what it is called, how it is begun (anew, too), and what it takes."""

    name: str
    begin: Callable[[], Turns[T]]
    clock: Clock = field(default_factory=Clock)


def in_turn(jobs: Sequence[Job[T]], lanes: Lanes, tell: Callable[[str], None]) -> list[T]:
    """Do all jobs, as many at a time as there are lanes, and return their results in order.

    A job that fails leaves the others that have begun to their end; then its error is raised, and no further job
    begins. One for which the memory of a GPU does not suffice beside others begins again alone once they have ended.
    A broken device ends all at once. Raises Interrupted after a signal, once each job has saved its state.
    """
    return _InTurn(jobs, lanes, tell).run()


@dataclass(eq=False)
class _Place(Generic[T]):
    """A job that has begun, on its lane."""

    job: Job[T]
    lane: int
    turns: Turns[T]


class _InTurn(Generic[T]):
    """The jobs that wait, those that have begun, and what came of the others."""

    def __init__(self, jobs: Sequence[Job[T]], lanes: Lanes, tell: Callable[[str], None]) -> None:
        self._jobs, self._lanes, self._tell = jobs, lanes, tell
        self._waiting = deque(jobs)
        self._begun: list[_Place[T]] = []
        self._results: dict[Job[T], T] = {}
        self._starved: list[Job[T]] = []
        self._failed: list[Exception] = []
        self._full = False

    def run(self) -> list[T]:
        """Do all of it."""
        try:
            while self._begun or self._may_begin():
                if self._may_begin():
                    self._begin(self._waiting.popleft())
                else:
                    self._turn(list(self._begun))
            self._raise_failure()
            for job in self._starved:
                self._lanes.recover()
                self._begin(job)
                while self._begun:
                    self._turn(list(self._begun))
                self._raise_failure()
        finally:
            for place in self._begun:
                with self._lanes.lane(place.lane), suppress(Exception):
                    place.turns.close()
        return [self._results[job] for job in self._jobs]

    def _raise_failure(self) -> None:
        """Raise what went wrong first; a request to stop comes before it, since states go on from there."""
        for error in sorted(self._failed, key=lambda error: not isinstance(error, Interrupted)):
            raise error

    def _may_begin(self) -> bool:
        if not self._waiting or self._failed or self._full or len(self._begun) == self._lanes.count:
            return False
        self._full = bool(self._begun) and not self._lanes.has_room(len(self._begun))
        return not self._full

    def _begin(self, job: Job[T]) -> None:
        """Begin a job on a free lane and let it take its first steps."""
        taken = {place.lane for place in self._begun}
        lane = next(number for number in range(self._lanes.count) if number not in taken)
        place = _Place(job, lane, job.begin())
        self._begun.append(place)
        for _ in range(WARM):
            if place in self._begun:
                self._turn([place])

    def _turn(self, places: Sequence[_Place[T]]) -> None:
        """Let jobs take a step each, and share what the steps took by their images."""
        images: dict[Job[T], int] = {}
        together = 0.0
        for place in places:
            clock = place.job.clock
            with self._lanes.lane(place.lane), clock.running():
                found = self._step(place)
            if found:
                images[place.job] = found
                together += clock.turn
            else:
                clock.seconds += clock.turn
        for job, count in images.items():
            job.clock.seconds += together * count / sum(images.values())

    def _step(self, place: _Place[T]) -> int:
        """Let a job take a step and return its images; 0 where it has but begun, or ended."""
        try:
            return next(place.turns)
        except StopIteration as end:
            self._results[place.job] = end.value
        except Exception as error:
            alone = len(self._begun) == 1
            if self._lanes.count == 1 or is_broken(error):
                raise
            if is_starved(error) and not alone:
                # The error would hold what it has seen, and the memory with it.
                self._starved.append(place.job)
                self._tell(f"{place.job.name}: memory ran out beside others, begins again once they have ended")
            else:
                self._failed.append(error)
                if not alone and not isinstance(error, Interrupted):
                    self._tell(f"{place.job.name}: failed, the others that have begun end first ({error})")
        self._begun.remove(place)
        self._lanes.ended(place.lane)
        self._full = False
        return 0


def is_starved(error: BaseException) -> bool:
    """Return whether an error is, or comes from, the memory of a GPU that does not suffice."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, torch.OutOfMemoryError):
            return True
        if isinstance(seen, RuntimeError) and any(word in str(seen) for word in _STARVED):
            return True
        seen = seen.__context__
    return False


def is_broken(error: BaseException) -> bool:
    """Return whether an error says that the device can no longer be relied on; other trainings see it too."""
    if is_starved(error) or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.AcceleratorError) or any(word in str(error) for word in _BROKEN)
