"""State of an unfinished training: saved by rename, locked against a second process, deleted at the end."""

from __future__ import annotations

import pickle
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from imbnas import waiting
from imbnas.errors import Interrupted, UserError
from imbnas.files import discard, remove_parts, taken
from imbnas.sealed import DamagedError, open_sealed, write_sealed
from imbnas.training.ranks import ALONE, Ranks


class ResumeState:
    """The saved state of one training, at `<base>.<name>.pt`.

    Use it as a context manager: it holds the lock, and turns SIGTERM and SIGINT into a save followed by
    `Interrupted` at the next call of `tick`, which is the only place where state is whole. Of several processes that
    train together the first reads and writes it, and all stop at the same `tick`.
    """

    def __init__(
        self,
        base: Path,
        name: str,
        interval: float,
        on_save: Callable[[], None] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Prepare; `interval` is in seconds between two saves, `on_save` is called after each of them."""
        self.path = base.with_name(f"{base.name}.{name}.pt")
        self._interval = interval
        self._on_save = on_save
        self._ranks = ranks
        self._saved = time.monotonic()
        self._stop = 0

    @contextmanager
    def held(self) -> Iterator[ResumeState]:
        """Hold the lock and the signals; raise UserError when another process trains the same thing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("a") as lock:
            if self._ranks.first and not taken(lock):
                raise UserError(
                    f"{self.path}: another process runs this very step, expected one; wait for it or stop it"
                )
            if self._ranks.first:
                remove_parts(self.path)
            self._saved = time.monotonic()
            with _heeded(self):
                yield self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._stop = number
        waiting.hurry()

    def due(self, within: float) -> bool:
        """Return whether the next state is to be saved within so many seconds, of a longer interval."""
        return self._interval > within and time.monotonic() - self._saved >= self._interval - within

    def load(self, tell: Callable[[str], None]) -> dict[str, Any] | None:
        """Return the saved state on the CPU; None when there is none, or none that is whole, which is told."""
        return self._ranks.shared(lambda: self._read(tell))

    def _read(self, tell: Callable[[str], None]) -> dict[str, Any] | None:
        try:
            with open_sealed(self.path) as stream:
                state = torch.load(stream, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise ValueError(f"found {type(state).__name__}")
        except FileNotFoundError:
            return None
        except (DamagedError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError, OSError) as error:
            self.begin_anew(error, tell)
            return None
        return state

    def begin_anew(self, error: Exception, tell: Callable[[str], None]) -> None:
        """Tell that the saved state is not used: the training then starts as if there were none."""
        reason = str(error).removeprefix(f"{self.path}: ").splitlines()[:1]
        tell(f"{self.path}: not a whole training state ({(reason or [type(error).__name__])[0]}), begun anew")

    def tick(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save `state()` when the interval is over or a signal came; after a signal raise Interrupted."""
        stop = self._ranks.any(bool(self._stop))
        if stop or time.monotonic() - self._saved >= self._interval:
            self.save(state())
        if stop:
            # Nobody leaves before the state is written: the end of one is a reason to stop the others.
            self._ranks.any(stop)
            raise Interrupted("state saved; run the same command again to go on")

    def pause(self) -> None:
        """Raise Interrupted after a signal; for work whose progress is on disk already."""
        if time.monotonic() - self._saved >= self._interval and self._on_save is not None and self._ranks.first:
            self._saved = time.monotonic()
            self._on_save()
        if self._ranks.any(bool(self._stop)):
            raise Interrupted("progress saved; run the same command again to go on")

    def save(self, state: dict[str, Any]) -> None:
        """Write the state by rename."""
        self._saved = time.monotonic()
        if not self._ranks.first:
            return
        write_sealed(self.path, lambda stream: torch.save(state, stream), _bytes_of(state))
        self._saved = time.monotonic()
        if self._on_save is not None:
            self._on_save()

    def finish(self) -> None:
        """Discard the state: the step's output is written."""
        if not self._ranks.first:
            return
        discard(self.path)
        self.path.with_suffix(".lock").unlink(missing_ok=True)


_HELD: list[ResumeState] = []
"""The states of the trainings that take turns in this process; a signal stops them all."""
_BEFORE: dict[int, Any] = {}
"""The handlers of signals before the first of them was held."""


@contextmanager
def _heeded(state: ResumeState) -> Iterator[None]:
    """Let signals be noted by a state among all that are held, in whatever order they end."""
    state._stop = next((other._stop for other in _HELD if other._stop), state._stop)
    _HELD.append(state)
    if len(_HELD) == 1:
        _BEFORE.update({number: signal.signal(number, _note_all) for number in (signal.SIGTERM, signal.SIGINT)})
    try:
        yield
    finally:
        if len(_HELD) == 1:
            for number, handler in _BEFORE.items():
                signal.signal(number, handler)
            waiting.forget()
        _HELD.remove(state)


def _note_all(number: int, frame: FrameType | None) -> None:
    for state in _HELD:
        state._note(number, frame)


def _bytes_of(value: Any) -> int:
    """Return the bytes of all tensors in a state, which are nearly all of its file."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(_bytes_of(part) for part in parts)


def progress(saved: Mapping[str, Any], steps: int, per_epoch: int) -> tuple[int, list[float]]:
    """Return the steps and the history of a saved state; ValueError where they are not those of such a training."""
    done, history = saved["step"], [float(value) for value in saved["history"]]
    if type(done) is not int or not 0 < done <= steps or len(history) != -(-done // per_epoch):
        raise ValueError(f"found step {done} with {len(history)} epochs, expected at most {steps} steps")
    return done, history
