"""Class-aware samplers: which rows an epoch visits, as a pure function of labels, seed and epoch (numpy only).

All follow the protocol of `data.samplers`: `epoch(e)` returns the row positions of the 0-based epoch e in their
order. `len()` is their number. Nothing is carried from one epoch to the next, so that a resumed training draws the
same rows, and every process of a distributed training draws the same sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbnas.data.order import InstanceSampler, Sampler
from imbnas.errors import UserError
from imbnas.longtail.cycles import Cycles, Rows, hashed
from imbnas.longtail.schedules import progressive_weight
from imbnas.longtail.weights import check_counts
from imbnas.params.longtail import SamplerParams
from imbnas.seeds import stream


def power_probabilities(counts: ArrayLike, power: float) -> NDArray[np.float64]:
    """Return p_k ~ n_k^power (C,), the chance that a draw is of class k (Kang et al. 2020).

    power 1 is instance-balanced, 0.5 square-root, 0 class-balanced, -1 BBN's reversed sampling (Zhou et al. 2020).

    Raises:
        UserError: for a class without rows.
    """
    weights = check_counts(counts) ** power
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def progressive_probabilities(counts: ArrayLike, weight: float) -> NDArray[np.float64]:
    """Return (1 - weight) n_k / N + weight / C, between instance-balanced (0) and class-balanced (1).

    Raises:
        UserError: for a class without rows.
    """
    return (1.0 - weight) * power_probabilities(counts, 1.0) + weight * power_probabilities(counts, 0.0)


class ClassSampler:
    """Draws a class by given chances, then one of its rows uniformly, with replacement.

    Args:
        labels: class of every row (N,).
        seed: of the draws; together with the epoch it determines them.
        probabilities: chance of each class (C,), see `power_probabilities` and its siblings.
        rows: draws in an epoch; None takes N.

    Raises:
        UserError: for a class without rows, or chances that are not a distribution over the classes.
    """

    def __init__(self, labels: ArrayLike, seed: int, probabilities: ArrayLike, rows: int | None = None) -> None:
        self._members = _Members(labels)
        self._seed = seed
        self._rows = _row_count(rows, self._members.total)
        self._probabilities = np.asarray(probabilities, dtype=np.float64)
        if self._probabilities.shape != self._members.counts.shape:
            found, expected = self._probabilities.shape, self._members.counts.shape
            raise UserError(f"probabilities: found shape {found}, expected {expected}, one for each class")
        if not (self._probabilities >= 0).all() or abs(self._probabilities.sum() - 1.0) > 1e-9:
            raise UserError(f"probabilities: found the sum {self._probabilities.sum()}, expected 1 and none negative")

    def __len__(self) -> int:
        """Return the number of draws in an epoch."""
        return self._rows

    def epoch(self, epoch: int) -> Rows:
        """Return the rows drawn in the 0-based epoch."""
        return _draw(self._members, self._probabilities, self._rows, self._seed, epoch)


class ProgressiveSampler:
    """Progressively balanced sampling (Kang et al. 2020), from instance-balanced to class-balanced epochs.

    The first epoch is the one, the last the other; in between the chances are mixed linearly.

    Args:
        labels: class of every row (N,).
        seed: of the draws; together with the epoch it determines them.
        epochs: length of the training.
        rows: draws in an epoch; None takes N.

    Raises:
        UserError: for a class without rows.
    """

    def __init__(self, labels: ArrayLike, seed: int, epochs: int, rows: int | None = None) -> None:
        self._members = _Members(labels)
        self._seed, self._epochs = seed, epochs
        self._rows = _row_count(rows, self._members.total)

    def __len__(self) -> int:
        """Return the number of draws in an epoch."""
        return self._rows

    def epoch(self, epoch: int) -> Rows:
        """Return the rows drawn in the 0-based epoch, which is below `epochs` (UserError)."""
        weight = progressive_weight(epoch, self._epochs)
        probabilities = progressive_probabilities(self._members.counts, weight)
        return _draw(self._members, probabilities, self._rows, self._seed, epoch)


class ClassAwareSampler:
    """Goes round the classes, each round in a new order, and takes the next rows of each class's shuffled cycle.

    As in Kang et al. 2020 every class gives `per_class` rows in its turn, no row of a class is repeated
    before all of its rows were drawn, and both cycles run on over the epochs: epoch e is a slice of one
    endless sequence. Random order comes from hashed positions, so that any slice is computed without those
    before it.

    Args:
        labels: class of every row (N,).
        seed: of the orders.
        per_class: rows that a class gives in its turn.
        length: rows in an epoch: `longest` is the largest class times C (Kang's code), `natural` is N.

    Raises:
        UserError: for a class without rows, an unknown length, or `per_class` below 1.
    """

    def __init__(
        self,
        labels: ArrayLike,
        seed: int,
        per_class: int = 4,
        length: Literal["longest", "natural"] = "longest",
    ) -> None:
        if length not in ("longest", "natural"):
            raise UserError(f"length: found {length!r}, expected longest or natural")
        if per_class < 1:
            raise UserError(f"per_class: found {per_class}, expected at least 1")
        self._members = _Members(labels)
        self._seed, self._per_class = seed, per_class
        counts = self._members.counts
        self._rows = int(counts.max()) * len(counts) if length == "longest" else self._members.total

    def __len__(self) -> int:
        """Return the number of rows in an epoch."""
        return self._rows

    def epoch(self, epoch: int) -> Rows:
        """Return the rows of the 0-based epoch."""
        classes = len(self._members.counts)
        turn, within = np.divmod(np.arange(self._rows) + epoch * self._rows, self._per_class)
        round_, slot = np.divmod(turn, classes)
        first, last = int(round_[0]), int(round_[-1])
        rounds = np.arange(first, last + 1)[:, None]
        order = np.argsort(hashed(self._seed, 0, rounds, np.arange(classes)), axis=1, kind="stable")
        class_ = order[round_ - first, slot]
        cycle = Cycles(self._members.counts, self._seed, first * self._per_class, (last + 1) * self._per_class)
        member = cycle.member(class_, round_ * self._per_class + within)
        return self._members.rows(class_, member)


class DeferredSampler:
    """Deferred re-sampling (DRS): one sampler first, another one from an epoch on.

    Args:
        before: acts first.
        after: acts from `switch` on.
        switch: the 0-based epoch, from `schedules.switch_epoch`.

    Raises:
        UserError: when the two have epochs of different length, which would bend every schedule that counts steps.
    """

    def __init__(self, before: Sampler, after: Sampler, switch: int) -> None:
        first, later = len(before.epoch(0)), len(after.epoch(0))
        if first != later:
            raise UserError(f"deferred sampling: found epochs of {first} and {later} rows, expected equal ones")
        self._rows = first
        self._before, self._after, self._switch = before, after, switch

    def __len__(self) -> int:
        """Return the number of rows in an epoch."""
        return self._rows

    def epoch(self, epoch: int) -> Rows:
        """Return the rows of the 0-based epoch, from the sampler that acts in it."""
        return (self._after if epoch >= self._switch else self._before).epoch(epoch)


class _Members:
    """The rows of each class."""

    def __init__(self, labels: ArrayLike) -> None:
        values = np.asarray(labels)
        if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iu" or values.min() < 0:
            raise UserError(f"labels: found {values.dtype} of shape {values.shape}, expected class indices (rows,)")
        self.counts = np.bincount(values)
        check_counts(self.counts)
        self.total = len(values)
        self._order = np.argsort(values, kind="stable")
        self._starts = np.cumsum(self.counts) - self.counts

    def rows(self, class_: Rows, member: Rows) -> Rows:
        """Return the row position of each pair of a class and an index into its rows."""
        return self._order[self._starts[class_] + member]


def _draw(members: _Members, probabilities: NDArray[np.float64], rows: int, seed: int, epoch: int) -> Rows:
    rng = stream(seed, "sampler", "class", epoch)
    edges = np.cumsum(probabilities)
    class_ = np.searchsorted(edges / edges[-1], rng.random(rows), side="right")
    return members.rows(class_, rng.integers(0, members.counts[class_]))


def _row_count(rows: int | None, total: int) -> int:
    if rows is not None and rows < 1:
        raise UserError(f"rows: found {rows}, expected at least 1")
    return total if rows is None else rows


SamplerFactory = Callable[[SamplerParams, ArrayLike, int, int], Sampler]
"""Makes a sampler from its options, the rows' labels (N,), a seed and the length of the training in epochs."""


def _power(power: float) -> SamplerFactory:
    def make(params: SamplerParams, labels: ArrayLike, seed: int, epochs: int) -> Sampler:
        return ClassSampler(labels, seed, power_probabilities(np.bincount(labels), power))

    return make


REVERSED_POWER = -1.0
"""Exponent of BBN's reversed sampling (Zhou et al. 2020)."""

SAMPLERS: dict[str, SamplerFactory] = {
    "instance": lambda params, labels, seed, epochs: InstanceSampler(np.asarray(labels), seed),
    "class-balanced": _power(0.0),
    "square-root": _power(0.5),
    "progressive": lambda params, labels, seed, epochs: ProgressiveSampler(labels, seed, epochs),
    "reversed": _power(REVERSED_POWER),
    "class-aware": lambda params, labels, seed, epochs: ClassAwareSampler(
        labels, seed, params.per_class, params.length
    ),
}
"""Every `sampler.name`."""
