"""Splits of a dataset's rows: seeded index arithmetic on labels, without touching a file.

Every draw takes, in each class, the first rows of a random order that is keyed by the seed and the draw's purpose.
Draws act on first occurrences of identical images (see `duplicates`); copies follow theirs into the training split.
Where rows have groups, whole groups are drawn (see `grouping`), and those that have an image in common are one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imbnas.data.grouping import draw_groups
from imbnas.errors import UserError
from imbnas.seeds import stream


@dataclass(frozen=True)
class Parts:
    """Ascending rows (int64) of a raw split that form the training, validation and test split; no two overlap."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    dropped: int = 0
    """Rows that are in none of them because the source has their images too."""


FEW = 5
"""With fewer validation rows a class's recall has steps of more than 20 points."""


def draw(labels: np.ndarray, quota: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return `quota[k]` random positions of each class k in `labels` (N,), ascending; a class with fewer gives all."""
    mixed = generator.permutation(len(labels))
    order = mixed[np.argsort(labels[mixed], kind="stable")]
    sizes = np.bincount(labels, minlength=len(quota))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[rank < quota[labels[order]]])


def share_rows(
    labels: np.ndarray, classes: int, share: float, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Return the source's positions: of each class with n rows floor(share * n), at least one; ascending.

    Of `groups` (N,) whole ones are taken, so that there may be more or fewer, and none of a class that has a single
    one. The steps `source` and `target` both call it; the target takes what it leaves.
    """
    sizes = np.bincount(labels, minlength=classes)
    # The small term undoes binary fractions: 0.29 of 100 is 29.
    quota = np.maximum(1, np.floor(share * sizes + 1e-9).astype(np.int64))
    generator = stream(seed, "splits", "share")
    if groups is None:
        return draw(labels, quota, generator)
    # The target needs a group for its training rows and one for a test split of its own.
    return draw_groups(labels, groups, quota, generator, keep=2)


def source_parts(
    labels: np.ndarray,
    first: np.ndarray,
    classes: Sequence[str],
    share: float,
    per_class: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> Parts:
    """Split the source's training rows: `share` of each class, of which `per_class` rows are validation, or a quarter.

    `first` gives each row's first occurrence (`duplicates.first_occurrence`), `groups` the number of its group, if any
    (`grouping.joined`). Raises UserError where no class has four rows, of which one could be a validation row.
    """
    units = _units(first)
    share_of = units[share_rows(labels[units], len(classes), share, seed, _of(groups, units))]
    if groups is not None:
        _check_drawn(labels, groups, share_of, classes, "source.share")
    why = f"distinct images with source.share {share:g}"
    quota = _quota(labels[share_of], classes, per_class, "source.validation.per_class", why)
    validation = share_of[_drawn(labels[share_of], _of(groups, share_of), quota, stream(seed, "splits", "source"))]
    return Parts(_with_copies(np.setdiff1d(share_of, validation, True), first), validation, _empty())


def target_parts(
    labels: np.ndarray,
    first: np.ndarray,
    classes: Sequence[str],
    *,
    source_share: float | None,
    source_seed: int,
    test_fraction: float | None,
    per_class: int,
    seed: int,
    taken: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Parts:
    """Split the target's training rows: without the source's images, then a test share, then validation per class.

    `source_share` and `source_seed` are the source's where it is the same dataset, else the share is None; `taken`
    (bool, (N,)) marks rows whose image the source has, whatever dataset it is, and with it its group.
    `test_fraction` is None where a test split is published, `per_class` 0 where no validation rows are reserved, and a
    quarter of a class's rows are reserved where that is less. With none of these every row is a training row. `first`
    and `groups` are as in `source_parts`. Raises UserError naming the parameter and the class that has too few rows.
    """
    rows = units = _units(first)
    count = len(classes)
    if source_share is not None:
        rows = np.delete(rows, share_rows(labels[rows], count, source_share, source_seed, _of(groups, rows)))
    dropped = 0
    if taken is not None:
        if groups is not None:
            taken = np.isin(groups, groups[taken])
        dropped = len(_with_copies(rows[taken[rows]], first))
        rows = rows[~taken[rows]]
    _check_enough(labels[units], labels[rows], classes, test_fraction is not None)
    test = _empty()
    if test_fraction is not None:
        sizes = np.bincount(labels[rows], minlength=count)
        quota = np.maximum(1, np.floor(test_fraction * sizes + 0.5).astype(np.int64))
        _check_left(sizes, quota, classes, "target.test_fraction", test_fraction)
        test = rows[_drawn(labels[rows], _of(groups, rows), quota, stream(seed, "splits", "test"))]
        if groups is not None:
            _check_drawn(labels, groups, test, classes, "target.test_fraction")
        rows = np.setdiff1d(rows, test, True)
    why = "distinct images left for training and validation"
    quota = _quota(labels[rows], classes, per_class, "target.validation.per_class", why)
    validation = rows[_drawn(labels[rows], _of(groups, rows), quota, stream(seed, "splits", "target"))]
    return Parts(_with_copies(np.setdiff1d(rows, validation, True), first), validation, test, dropped)


def few(labels: np.ndarray, classes: Sequence[str]) -> str | None:
    """Return a warning where a class has fewer than FEW of the validation rows with these `labels`, else None.

    Where no rows are reserved at all there is nothing to warn of.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    short = np.flatnonzero(sizes < FEW)
    if not len(labels) or not len(short):
        return None
    k = int(short[np.argmin(sizes[short])])
    return (
        f"warning: {len(short)} of {len(classes)} classes have fewer than {FEW} validation rows, class {classes[k]!r} "
        f"{sizes[k]}: what validation rows decide is coarse there"
    )


def hold_out(counts: np.ndarray, fraction: float, classes: Sequence[str]) -> np.ndarray:
    """Return how many of each class's `counts` rows are held out: the fraction, rounded up, at least one.

    Raises UserError naming the first class in which no row would be left for training.
    """
    held = np.array([max(1, math.ceil(fraction * count - 1e-9)) for count in counts.tolist()], dtype=np.int64)
    _check_left(counts, held, classes, "target.validation.fraction", fraction)
    return held


def _of(groups: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if groups is None else groups[rows]


def _drawn(
    labels: np.ndarray, groups: np.ndarray | None, quota: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return random positions of about `quota[k]` rows of each class: exactly so many where there are no groups."""
    return draw(labels, quota, generator) if groups is None else draw_groups(labels, groups, quota, generator)


def _check_drawn(
    labels: np.ndarray, groups: np.ndarray, drawn: np.ndarray, classes: Sequence[str], parameter: str
) -> None:
    """Refuse a class of which no group could be drawn, since none could be spared."""
    short = np.flatnonzero(np.bincount(labels[drawn], minlength=len(classes)) == 0)
    if len(short):
        k = int(short[0])
        number = len(np.unique(groups[labels == k]))
        raise UserError(
            f"{parameter}: class {classes[k]!r} has its images in {number} group{'s' * (number != 1)}, none of which "
            "can be spared, since a group is never parted: expected more groups of it: add images of others, take the "
            "class out of the dataset, or name published test images"
            + (f" (so it is with {len(short) - 1} more classes)" if len(short) > 1 else "")
        )


def _units(first: np.ndarray) -> np.ndarray:
    return np.flatnonzero(first == np.arange(len(first)))


def _with_copies(rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    chosen = np.zeros(len(first), dtype=bool)
    chosen[rows] = True
    return np.flatnonzero(chosen[first])


def _empty() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


def _quota(labels: np.ndarray, classes: Sequence[str], per_class: int, parameter: str, why: str) -> np.ndarray:
    """Return how many rows of each class are reserved: `per_class`, or where that is less a quarter of the class."""
    sizes = np.bincount(labels, minlength=len(classes))
    quota = np.minimum(per_class, sizes // 4)
    if per_class and not quota.any():
        raise UserError(
            f"{parameter}: {per_class} rows of each class, but at most a quarter of it, and no class has more than "
            f"{sizes.max()} {why}, expected one with at least 4"
        )
    return quota


def _check_enough(all_labels: np.ndarray, labels: np.ndarray, classes: Sequence[str], own_test: bool) -> None:
    """Refuse a class with too few of its distinct images left for each split, once the source has its own."""
    before, left = (np.bincount(values, minlength=len(classes)) for values in (all_labels, labels))
    need = 1 + own_test
    short = np.flatnonzero(left < need)
    if not len(short):
        return
    k = int(short[0])
    shared = len(labels) < len(all_labels)
    parameter = "target.test_fraction" if left[k] else "source.share" if shared else "target.root"
    images = f"{before[k]} distinct image{'s' if before[k] != 1 else ''}"
    split = ["training"] + ["the test split"] * own_test
    ways = ["add images of the class", "take the class out of the dataset"]
    if own_test:
        ways.append("name published test images (target.splits.test)")
    if shared:
        ways.append("take another source (source.dataset and root; with supernet.epochs 0 its images do not matter)")
    raise UserError(
        f"{parameter}: class {classes[k]!r} has {images}"
        + (f", of which the source has {before[k] - left[k]}" if shared else "")
        + f", expected at least {need} for {' and '.join(split)}{' besides' if shared else ''}: "
        + f"{', '.join(ways[:-1])} or {ways[-1]}"
        + (f" (so it is with {len(short) - 1} more classes)" if len(short) > 1 else "")
    )


def _check_left(sizes: np.ndarray, quota: np.ndarray, classes: Sequence[str], parameter: str, value: float) -> None:
    short = np.flatnonzero(sizes <= quota)
    if len(short):
        k = int(short[0])
        raise UserError(
            f"{parameter}: {value:g} takes {quota[k]} of the {sizes[k]} rows of class {classes[k]!r}, "
            "expected at least one row left for training: a smaller fraction, or more images of the class, or none"
        )
