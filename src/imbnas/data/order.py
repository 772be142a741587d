"""The order in which training rows are seen."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from imbnas.seeds import stream


class Sampler(Protocol):
    """Gives the rows of each epoch as a function of its number alone, so that a resumed training sees the same."""

    def epoch(self, epoch: int) -> np.ndarray:
        """Return int64 positions among the training rows, in the order in which the 0-based epoch sees them."""
        ...


class InstanceSampler:
    """Every row once per epoch, in a random order: instance-balanced sampling."""

    def __init__(self, labels: np.ndarray, seed: int) -> None:
        """Take the labels (N,) of the training rows, of which only the number matters, and the seed of all epochs."""
        self._rows = len(labels)
        self._seed = seed

    def epoch(self, epoch: int) -> np.ndarray:
        """Return a permutation of 0..N-1 that is a function of the seed and `epoch`."""
        return stream(self._seed, "sampler", "instance", epoch).permutation(self._rows)
