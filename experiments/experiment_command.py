"""An experiment as a command: it may be stopped at any time, and its faults are one line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

from imbnas.errors import Interrupted, UserError
from imbnas.run.launch import EXIT_STOPPED, EXIT_USER


def run(work: Callable[[], str]) -> int:
    """Do an experiment's work, print the text that it returns, and return the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        text = work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    except (Interrupted, KeyboardInterrupt):
        print("stopped: nothing was half-written, run the same command again", file=sys.stderr)
        return EXIT_STOPPED
    if text:
        print(text)
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Turn a request to stop into an exception, once."""
    signal.signal(number, signal.SIG_IGN)
    raise Interrupted("asked to stop")
