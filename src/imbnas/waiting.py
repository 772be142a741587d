"""Waiting for another process, with a time limit, and without missing a request to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from imbnas.errors import Interrupted

HURRY_SECONDS = 5.0
"""How long a process that was asked to stop still waits for what it is waiting for: then its state is whole."""

_active = False
_asked = False


class OverdueError(Exception):
    """Raised when a wait takes too long."""


class StoppedWaiting(Interrupted):
    """The step was asked to stop while it waited for another process, between two steps of its work."""


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise OverdueError when the block takes longer, wherever in it the process hangs; `hurry` shortens the time.

    Only the main thread can be interrupted so: in another one the block takes what it takes.
    """
    global _active
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _expire)
    _active = True
    try:
        signal.setitimer(signal.ITIMER_REAL, min(seconds, HURRY_SECONDS) if _asked else seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _active = False
        signal.signal(signal.SIGALRM, before)


def _expire(number: int, frame: FrameType | None) -> None:
    raise OverdueError


def hurry() -> None:
    """Note, in a handler of signals, that the process is asked to stop."""
    global _asked
    _asked = True
    if _active:
        signal.setitimer(signal.ITIMER_REAL, HURRY_SECONDS)


def asked_to_stop() -> bool:
    """Return whether `hurry` was called, and `forget` not since then."""
    return _asked


def forget() -> None:
    """Forget a request to stop, which was followed."""
    global _asked
    _asked = False
