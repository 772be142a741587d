"""Kendall's rank correlation, in numpy: scipy's module of statistics takes longer to import than a search to rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def kendall(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return Kendall's tau-b of two sequences (N,), in [-1, 1]: agreeing minus disagreeing pairs, ties taken out.

    tau-b = (P - Q) / sqrt((P + Q + T) (P + Q + U)), where P pairs agree, Q disagree, T tie in the first sequence alone
    and U in the second alone (Kendall 1945). None where one of them has a single value, and nothing to rank.
    """
    x, y = _dense(first), _dense(second)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"rank correlation: found shapes {x.shape} and {y.shape}, expected (N,) twice")
    pairs = len(x) * (len(x) - 1) // 2
    ties_x, ties_y = _tied(x), _tied(y)
    if pairs in (ties_x, ties_y):
        return None
    ties_both = _tied(_dense(x * (int(y.max()) + 1) + y))
    disagreeing = _inversions(y[np.lexsort((y, x))])
    surplus = pairs - ties_x - ties_y + ties_both - 2 * disagreeing
    return float(surplus / np.sqrt(float(pairs - ties_x) * float(pairs - ties_y)))


def _dense(values: ArrayLike) -> NDArray[np.int64]:
    """Return the ranks of values, equal ones alike, counted from 0 without gaps."""
    return np.unique(np.asarray(values), return_inverse=True)[1].astype(np.int64)


def _tied(ranks: NDArray[np.int64]) -> int:
    """Return the number of pairs of equal ranks."""
    sizes = np.bincount(ranks)
    return int((sizes * (sizes - 1) // 2).sum())


def _inversions(ranks: NDArray[np.int64]) -> int:
    """Return the number of pairs whose first member is greater, by a merge sort of all blocks of one width at once."""
    found, width, place = 0, 1, np.arange(len(ranks))
    while width < len(ranks):
        block, right = place // (2 * width), place // width % 2
        order = np.lexsort((right, ranks, block))
        is_left = right[order] == 0
        # Of each block's left half, those that come behind an element of the right half are greater than it.
        passed = np.cumsum(is_left)
        lefts = np.concatenate([[0], np.cumsum(np.bincount(block, weights=right == 0).astype(np.int64))])
        behind = lefts[block[order] + 1] - passed
        found += int(behind[~is_left].sum())
        ranks = ranks[order]
        width *= 2
    return found
