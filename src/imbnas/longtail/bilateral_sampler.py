"""The rows of a network with two branches: a sampler for each, and batches that hold both (numpy only)."""

from __future__ import annotations

import numpy as np

from imbnas.data.order import Sampler
from imbnas.errors import UserError
from imbnas.longtail.cycles import Rows


class BilateralSampler:
    """BBN's pairs of batches (Zhou et al. 2020): as many rows of a conventional and of a re-balancing sampler.

    An epoch that is cut into batches of 2 `batch_size` gives, in each, first the conventional rows and then the
    re-balancing ones; the last batch is shorter and split evenly as well. It is left out when it would have a single
    row of each, since BatchNorm needs two.

    Args:
        conventional: every row once, as a rule.
        rebalancing: rare classes more often; reversed sampling in the paper, `power_probabilities(counts, -1)`.
        batch_size: rows that each branch sees in an optimiser step.

    Raises:
        UserError: when the two have epochs of different length, or `batch_size` is below 2.
    """

    def __init__(self, conventional: Sampler, rebalancing: Sampler, batch_size: int) -> None:
        first, second = len(conventional.epoch(0)), len(rebalancing.epoch(0))
        if first != second:
            raise UserError(f"bilateral sampling: found epochs of {first} and {second} rows, expected equal ones")
        if batch_size < 2:
            raise UserError(f"batch_size: found {batch_size}, expected at least 2, which BatchNorm needs")
        rest = first % batch_size
        self._rows = first - 1 if rest == 1 and first > batch_size else first
        self._conventional, self._rebalancing, self._batch_size = conventional, rebalancing, batch_size

    def __len__(self) -> int:
        """Return the number of rows in an epoch, those of both samplers together."""
        return 2 * self._rows

    def epoch(self, epoch: int) -> Rows:
        """Return the rows of the 0-based epoch."""
        sides = [sampler.epoch(epoch)[: self._rows] for sampler in (self._conventional, self._rebalancing)]
        starts = range(0, self._rows, self._batch_size)
        return np.concatenate([side[start : start + self._batch_size] for start in starts for side in sides])
