"""Which rows go to which split: index arithmetic on labels, seeded, without touching a file.

Every draw takes, in each class, the first rows of a random order that is keyed by the seed and the draw's purpose.
Draws act on first occurrences of identical images (see `duplicates`); copies follow theirs into the training split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imbnas.errors import UserError
from imbnas.seeds import stream


@dataclass(frozen=True)
class Parts:
    """Ascending rows (int64) of a raw split that form the training, validation and test split; no two overlap."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def draw(labels: np.ndarray, quota: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return `quota[k]` random positions of each class k in `labels` (N,), ascending; a class with fewer gives all."""
    mixed = generator.permutation(len(labels))
    order = mixed[np.argsort(labels[mixed], kind="stable")]
    sizes = np.bincount(labels, minlength=len(quota))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[rank < quota[labels[order]]])


def share_rows(labels: np.ndarray, classes: int, share: float, seed: int) -> np.ndarray:
    """Return the source's positions: of each class with n rows floor(share * n), at least one; ascending.

    The steps `source` and `target` both call it; the target takes what it leaves.
    """
    sizes = np.bincount(labels, minlength=classes)
    # The small term undoes binary fractions: 0.29 of 100 is 29.
    quota = np.maximum(1, np.floor(share * sizes + 1e-9).astype(np.int64))
    return draw(labels, quota, stream(seed, "splits", "share"))


def source_parts(
    labels: np.ndarray, first: np.ndarray, classes: Sequence[str], share: float, per_class: int, seed: int
) -> Parts:
    """Split the source's training rows: `share` of each class, of which `per_class` rows are validation.

    `first` gives each row's first occurrence (`duplicates.first_occurrence`). Raises UserError naming the class that
    would have no training row left.
    """
    units = _units(first)
    share_of = units[share_rows(labels[units], len(classes), share, seed)]
    _leave_one(labels[share_of], per_class, classes, "source.validation.per_class", f"with source.share {share:g}")
    validation = share_of[_per_class(labels[share_of], len(classes), per_class, stream(seed, "splits", "source"))]
    return Parts(_with_copies(np.setdiff1d(share_of, validation, True), first), validation, _empty())


def target_parts(
    labels: np.ndarray,
    first: np.ndarray,
    classes: Sequence[str],
    *,
    source_share: float | None,
    test_fraction: float | None,
    per_class: int,
    seed: int,
) -> Parts:
    """Split the target's training rows: without the source's share, then a test share, then validation per class.

    `source_share` is None where the source is another dataset, `test_fraction` None where a test split is published,
    `per_class` 0 where no validation rows are reserved; with none of the three every row is a training row.
    `first` is as in `source_parts`. Raises UserError naming the parameter and the class that has too few rows.
    """
    rows = _units(first)
    count = len(classes)
    if source_share is not None:
        rows = np.delete(rows, share_rows(labels[rows], count, source_share, seed))
        _leave_one(labels[rows], 0, classes, "source.share", f"after the source took {source_share:g} of this dataset")
    test = _empty()
    if test_fraction is not None:
        sizes = np.bincount(labels[rows], minlength=count)
        quota = np.maximum(1, np.floor(test_fraction * sizes + 0.5).astype(np.int64))
        _check_left(sizes, quota, classes, "target.test_fraction", test_fraction)
        test = rows[draw(labels[rows], quota, stream(seed, "splits", "test"))]
        rows = np.setdiff1d(rows, test, True)
    _leave_one(labels[rows], per_class, classes, "target.validation.per_class", "left for training and validation")
    validation = rows[_per_class(labels[rows], count, per_class, stream(seed, "splits", "target"))]
    return Parts(_with_copies(np.setdiff1d(rows, validation, True), first), validation, test)


def hold_out(counts: np.ndarray, fraction: float, classes: Sequence[str]) -> np.ndarray:
    """Return how many of each class's `counts` rows are held out: the fraction, rounded up, at least one.

    Raises UserError naming the first class in which no row would be left for training.
    """
    held = np.array([max(1, math.ceil(fraction * count - 1e-9)) for count in counts.tolist()], dtype=np.int64)
    _check_left(counts, held, classes, "target.validation.fraction", fraction)
    return held


def _units(first: np.ndarray) -> np.ndarray:
    return np.flatnonzero(first == np.arange(len(first)))


def _with_copies(rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    chosen = np.zeros(len(first), dtype=bool)
    chosen[rows] = True
    return np.flatnonzero(chosen[first])


def _per_class(labels: np.ndarray, classes: int, per_class: int, generator: np.random.Generator) -> np.ndarray:
    return draw(labels, np.full(classes, per_class, dtype=np.int64), generator)


def _empty() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


def _leave_one(labels: np.ndarray, per_class: int, classes: Sequence[str], parameter: str, why: str) -> None:
    sizes = np.bincount(labels, minlength=len(classes))
    short = np.flatnonzero(sizes <= per_class)
    if len(short):
        k = int(short[0])
        found = f"{per_class} rows of each class, but " if per_class else ""
        raise UserError(
            f"{parameter}: {found}class {classes[k]!r} has {sizes[k]} distinct images {why}, "
            f"expected at least {per_class + 1}"
        )


def _check_left(sizes: np.ndarray, quota: np.ndarray, classes: Sequence[str], parameter: str, value: float) -> None:
    short = np.flatnonzero(sizes <= quota)
    if len(short):
        k = int(short[0])
        raise UserError(
            f"{parameter}: {value:g} takes {quota[k]} of the {sizes[k]} rows of class {classes[k]!r}, "
            "expected at least one row left for training"
        )
