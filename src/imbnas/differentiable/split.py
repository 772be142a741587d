"""The training rows of a bilevel search: a half for the weights, a half for the architecture, and batches of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from imbnas.data.samplers import InstanceSampler, Sampler
from imbnas.errors import UserError
from imbnas.longtail.samplers import ClassSampler, power_probabilities
from imbnas.seeds import derive, stream
from imbnas.training.loop import batches_of

Sampling = Literal["instance", "square-root", "balanced", "reversed"]
POWERS = {"square-root": 0.5, "balanced": 0.0, "reversed": -1.0}
"""Exponent of the class counts in the chance of a class (`longtail.samplers.power_probabilities`)."""


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


@dataclass(frozen=True)
class Feed:
    """Endless batches of some rows: batch k is a function of k, and every epoch of the sampler is used up in turn."""

    rows: np.ndarray
    sampler: Sampler
    batch_size: int

    @property
    def length(self) -> int:
        """Batches in one epoch of the sampler."""
        return len(batches_of(self.sampler.epoch(0), self.batch_size))

    def batches(self, first: int, last: int) -> list[np.ndarray]:
        """Return batches `first` to `last` - 1 as positions among all training rows."""
        length, known = self.length, {}
        found = []
        for number in range(first, last):
            epoch, place = divmod(number, length)
            if epoch not in known:
                known[epoch] = batches_of(self.sampler.epoch(epoch), self.batch_size)
            found.append(self.rows[known[epoch][place]])
        return found


def make_feed(labels: np.ndarray, rows: np.ndarray, sampling: Sampling, batch_size: int, seed: int, name: str) -> Feed:
    """Return the feed of `rows` that draws as `sampling` says; `labels` are those of all training rows.

    `instance` visits every row once an epoch; the others draw a class with a chance in proportion to its count to the
    power in `POWERS`, then one of its rows.
    """
    own = labels[rows]
    drawn = derive(seed, "feed", name, sampling)
    if sampling == "instance":
        return Feed(rows, InstanceSampler(own, drawn), batch_size)
    present, inside = np.unique(own, return_inverse=True)
    probabilities = power_probabilities(np.bincount(inside, minlength=len(present)), POWERS[sampling])
    return Feed(rows, ClassSampler(inside, drawn, probabilities), batch_size)
