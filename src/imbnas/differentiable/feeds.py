"""The training rows of a bilevel search: a half for the weights, a half for the architecture, and batches of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imbnas.data.order import Sampler
from imbnas.errors import UserError
from imbnas.seeds import stream
from imbnas.training.inputs import batches_of


def stratified_halves(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows class by class: `share` of each class, rounded, for the weights, the others for the architecture.

    Both get at least one row of every class, so that no loss or sampler meets a class without rows. Positions are
    ascending.

    Raises:
        UserError: for a class of a single row.
    """
    weights, architecture = [], []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise UserError(
                f"imbalance: class {label} has {len(rows)} training row, expected at least 2: a bilevel search needs "
                "one for the weights and one for the architecture"
            )
        order = stream(seed, "halves", int(label)).permutation(len(rows))
        cut = min(max(1, int(len(rows) * share + 0.5)), len(rows) - 1)
        weights.append(rows[order[:cut]])
        architecture.append(rows[order[cut:]])
    return np.sort(np.concatenate(weights)), np.sort(np.concatenate(architecture))


def blind_halves(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split `count` rows at random without looking at labels; positions are ascending."""
    order = stream(seed, "halves", "blind").permutation(count)
    cut = min(max(1, int(count * share + 0.5)), count - 1)
    return np.sort(order[:cut]), np.sort(order[cut:])


def class_order(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows class by class, ascending within each."""
    ordered = np.sort(rows)
    return ordered[np.argsort(labels[ordered], kind="stable")]


@dataclass(frozen=True)
class Feed:
    """Batches of some rows, as positions among all training rows: a function of epoch and place."""

    rows: np.ndarray
    sampler: Sampler
    batch_size: int

    @property
    def length(self) -> int:
        """Batches in one epoch of the sampler."""
        return len(batches_of(self.sampler.epoch(0), self.batch_size))

    def batches(self, epoch: int, first: int, last: int) -> list[np.ndarray]:
        """Return batches `first` to `last` - 1 of an epoch; one that asks for more than there are begins anew."""
        known, rows = batches_of(self.sampler.epoch(epoch), self.batch_size), self.rows_of(epoch)
        return [rows[known[place % len(known)]] for place in range(first, last)]

    def rows_of(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch: the same in all of them."""
        return self.rows


@dataclass(frozen=True)
class RedrawnFeed(Feed):
    """Batches of rows that each epoch draws anew: as many of each class, in the same order of classes, as `rows`.

    The sampler, which is made for the labels of `rows`, so fits all epochs.
    """

    draw: Callable[[int], np.ndarray]

    def rows_of(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch."""
        return self.draw(epoch)
