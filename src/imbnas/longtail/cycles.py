"""Endless shuffled cycles over each class's rows, of which any window is computed by itself (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Row positions, or indices into a class's rows."""


class Cycles:
    """The draws `begin` to `end` (exclusive) of every class's endless cycle: pass p is a shuffle of its n rows.

    Args:
        counts: rows of each class (C,), all above 0.
        seed: of the shuffles.
        begin: first draw of the window, counted per class from 0.
        end: end of the window.
    """

    def __init__(self, counts: Rows, seed: int, begin: int, end: int) -> None:
        self._counts = counts
        self._pass = begin // counts
        passes = (end - 1) // counts - self._pass + 1
        sizes = passes * counts
        self._starts = np.cumsum(sizes) - sizes
        class_ = np.repeat(np.arange(len(counts)), sizes)
        position = np.arange(int(sizes.sum())) - self._starts[class_]
        pass_, member = np.divmod(position, counts[class_])
        keys = hashed(seed, 1, class_, pass_ + self._pass[class_], member)
        # The pass in the leading bits: one sort of integers is four times as fast as one by three columns.
        group = ((np.cumsum(passes) - passes)[class_] + pass_).astype(np.uint64)
        bits = int(passes.sum()).bit_length()
        self._shuffled = member[np.argsort((group << np.uint64(64 - bits)) | (keys >> np.uint64(bits)), kind="stable")]

    def member(self, class_: Rows, draw: Rows) -> Rows:
        """Return which of the class's rows its draw number `draw` takes."""
        return self._shuffled[self._starts[class_] + draw - self._pass[class_] * self._counts[class_]]


def hashed(seed: int, *parts: int | Rows) -> NDArray[np.uint64]:
    """Return well mixed 64-bit keys of the parts, broadcast together (SplitMix64, Steele et al. 2014)."""
    state = np.array([seed % 2**64], dtype=np.uint64)
    for part in parts:
        state = state ^ np.asarray(part).astype(np.uint64)
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state
