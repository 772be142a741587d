"""Random numbers for the images of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """Draws one number for each image of a batch; where only some of its rows are here, theirs among all.

    So a share of a batch is augmented as it would be in the whole. Numbers come from a generator on the CPU, so that a
    CPU and a GPU draw alike.
    """

    def __init__(self, generator: torch.Generator, count: int, rows: Tensor | None = None) -> None:
        """Take the generator, the number of images in the batch, and the positions (int64) of those that are here."""
        self._generator, self._count, self._rows = generator, count, rows

    def integers(self, high: int) -> Tensor:
        """Return int64 numbers from 0 to `high` - 1."""
        return self._here(torch.randint(0, high, (self._count,), generator=self._generator))

    def uniform(self, low: float, high: float) -> Tensor:
        """Return float64 numbers in [low, high)."""
        drawn = torch.rand(self._count, generator=self._generator, dtype=torch.float64)
        return self._here(low + (high - low) * drawn)

    def coins(self) -> Tensor:
        """Return true or false."""
        return self.integers(2) == 1

    def _here(self, drawn: Tensor) -> Tensor:
        return drawn if self._rows is None else drawn.index_select(0, self._rows)
