"""Groups of rows that no split separates: the images of a patient, a lesion, a burst, a track."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from imbnas.data.raw import Raw
from imbnas.data.stored import INDEX, has_column, read_columns

COLUMN = "group"
"""The column of a split's index, where its dataset has groups."""


def joined(first: np.ndarray, groups: list[str]) -> list[str]:
    """Return the group of each row, after groups that have an image in common have become one, by its first row's name.

    `first` gives each row's first occurrence (`duplicates.first_occurrence`), `groups` the group of each row.
    """
    # Only where there are groups: the import takes a while.
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = np.arange(len(first))
    _, begin, member = np.unique(numbered(groups), return_index=True, return_inverse=True)
    edges = np.concatenate([rows, rows]), np.concatenate([first, begin[member]])
    graph = coo_matrix((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(len(first), len(first)))
    _, part = connected_components(graph, directed=False)
    _, begin, member = np.unique(part, return_index=True, return_inverse=True)
    return [groups[row] for row in begin[member].tolist()]


def numbered(groups: list[str]) -> np.ndarray:
    """Return the number of each row's group: int64 (N,)."""
    found: np.ndarray = pa.array(groups, pa.string()).dictionary_encode().indices.to_numpy().astype(np.int64)
    return found


def with_groups(raw: Raw, first: np.ndarray) -> tuple[Raw, np.ndarray | None]:
    """Return a raw split with its groups `joined`, and the number of each row's group; None where it has none."""
    if raw.groups is None:
        return raw, None
    groups = joined(first, raw.groups)
    return replace(raw, groups=groups), numbered(groups)


def draw_groups(
    labels: np.ndarray, groups: np.ndarray, quota: np.ndarray, generator: np.random.Generator, keep: int = 1
) -> np.ndarray:
    """Return positions of whole groups, ascending, with about `quota[k]` rows of each class k.

    Groups come in random order. One is drawn if that brings the classes nearer to their quotas: if it lowers the sum
    over classes of (rows - quota)^2 / quota. A class of which nothing was drawn then gets its most fitting group. Of
    every class `keep` groups stay, or all but one where it has no more, and its only group stays too: a class may
    therefore end with fewer rows than its quota, or none. `labels` and `groups` are (N,), numbers from 0.
    """
    found = _Draw(labels, groups, quota, keep)
    order = generator.permutation(found.groups)
    for group in order.tolist():
        if found.change(group) < 0.0:
            found.take(group)
    scarce = np.argsort(found.left, kind="stable")
    for label in scarce.tolist():
        if quota[label] and not found.have[label]:
            found.rescue(label, order)
    return np.flatnonzero(found.chosen[found.member])


class _Draw:
    """The state of a draw: which groups are chosen, and rows and groups of each class."""

    def __init__(self, labels: np.ndarray, groups: np.ndarray, quota: np.ndarray, keep: int) -> None:
        classes = len(quota)
        names, self.member = np.unique(groups, return_inverse=True)
        self.groups = len(names)
        pairs, rows = np.unique(self.member * classes + labels, return_counts=True)
        self._owner, self._label = pairs // classes, pairs % classes
        ends = np.searchsorted(self._owner, np.arange(self.groups + 1)).tolist()
        kinds, counts = self._label.tolist(), rows.tolist()
        self._holds = [list(zip(kinds[a:b], counts[a:b], strict=True)) for a, b in pairwise(ends)]
        self.chosen = np.zeros(self.groups, dtype=bool)
        self.have = [0] * classes
        self._quota = quota.tolist()
        self.left = np.bincount(self._label, minlength=classes).tolist()
        self._keep = [max(1, min(keep, number - 1)) for number in self.left]

    def change(self, group: int) -> float:
        """Return by how much the distance from the quotas grows with a group; infinity where it cannot be spared."""
        total = 0.0
        for label, rows in self._holds[group]:
            if self.left[label] <= self._keep[label]:
                return float("inf")
            total += rows * (rows + 2 * (self.have[label] - self._quota[label])) / max(self._quota[label], 1)
        return total

    def take(self, group: int) -> None:
        """Choose a group."""
        self.chosen[group] = True
        for label, rows in self._holds[group]:
            self.have[label] += rows
            self.left[label] -= 1

    def rescue(self, label: int, order: np.ndarray) -> None:
        """Choose the most fitting group that has a class, the first in `order` of equals, if one can be spared."""
        holders = np.zeros(self.groups, dtype=bool)
        holders[self._owner[self._label == label]] = True
        changes = {group: self.change(group) for group in order[holders[order] & ~self.chosen[order]].tolist()}
        best = min(changes, key=changes.__getitem__, default=None)
        if best is not None and np.isfinite(changes[best]):
            self.take(best)


def read_groups(directory: Path) -> np.ndarray | None:
    """Return the number of each row's group in the split in `directory`, None where it has none; UserError as others.

    Neither images nor the description of the split are opened.
    """
    file = directory / INDEX
    return numbered(read_columns(file, {COLUMN: pa.string()})[COLUMN].to_pylist()) if has_column(file, COLUMN) else None
