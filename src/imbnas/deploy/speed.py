"""Time that a network takes for one image, and a file's size, in words."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imbnas.disk import amount

MOST_ROUNDS, MOST_SECONDS = 30, 1.0
"""Of a measurement, whichever comes first."""


def milliseconds(call: Callable[[], Any]) -> float:
    """Return the median time of a call, after two that are not counted."""
    for _ in range(2):
        call()
    begin = time.perf_counter()
    times: list[float] = []
    while len(times) < MOST_ROUNDS and (len(times) < 3 or time.perf_counter() - begin < MOST_SECONDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def in_words(path: Path, took: float, threads: int) -> str:
    """Return a file's size and the time per image as a line."""
    return f"{amount(path.stat().st_size)}, {took:.3g} ms per image alone on {threads} CPU thread{'s' * (threads > 1)}"
