"""The exact decomposition of a table of whole numbers into few products of whole numbers.

A matrix of rank r is a sum of r products u_k v_k^T of integer vectors: the rows of the matrix generate a lattice with a
basis of r integer rows, and each row of the matrix has integer coordinates in it. The basis comes from Euclid's
algorithm on rows, and is then made short, so that sums of products stay small.
"""

from __future__ import annotations

import numpy as np

SAFE = 2**40
"""Size of entries beyond which the decomposition gives up: 64-bit arithmetic must not overflow."""
SWEEPS = 50
"""Rounds of shortening at most; a few are enough."""


def integer_factors(matrix: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return integers `u` (n, r) and `v` (r, m) whose product is the matrix of int64 (n, m), r being its rank.

    None where the rank is above `most`, or where the numbers on the way become too large.
    """
    basis = _row_basis(matrix, most)
    if basis is None:
        return None
    coordinates = _coordinates(matrix, basis)
    _shorten(coordinates, basis)
    _shorten(basis.T, coordinates.T)
    if not np.array_equal(coordinates.astype(object) @ basis.astype(object), matrix.astype(object)):
        return None
    return coordinates, basis


def _row_basis(matrix: np.ndarray, most: int) -> np.ndarray | None:
    """Return a basis, in echelon form, of the lattice that the rows generate."""
    rest = np.unique(matrix, axis=0)
    rest = rest[rest.any(axis=1)]
    basis: list[np.ndarray] = []
    while len(rest):
        if len(basis) == most or np.abs(rest).max() > SAFE:
            return None
        column = int(np.flatnonzero(rest.any(axis=0))[0])
        while np.count_nonzero(rest[:, column]) > 1:
            heads = rest[:, column]
            place = int(np.argmin(np.where(heads == 0, np.iinfo(np.int64).max, np.abs(heads))))
            shares = _nearest(heads, int(heads[place]))
            shares[place] = 0
            rest = rest - np.multiply.outer(shares, rest[place])
            if np.abs(rest).max() > SAFE:
                return None
            rest = np.unique(rest[rest.any(axis=1)], axis=0)
        place = int(np.flatnonzero(rest[:, column])[0])
        basis.append(rest[place])
        rest = np.delete(rest, place, axis=0)
    return np.array(basis, dtype=np.int64).reshape(len(basis), matrix.shape[1])


def _coordinates(matrix: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return the integer coordinates of each row in a basis in echelon form."""
    rest = matrix.copy()
    found = np.zeros((len(matrix), len(basis)), dtype=np.int64)
    for place, row in enumerate(basis):
        column = int(np.flatnonzero(row)[0])
        found[:, place] = rest[:, column] // row[column]
        rest -= np.multiply.outer(found[:, place], row)
    return found


def _shorten(left: np.ndarray, right: np.ndarray) -> None:
    """Make the rows of `right` shorter in place, as long as one multiple of another does; the product stays.

    `left @ right` is kept by taking from the columns of `left` what is added to the rows of `right`.
    """
    for _ in range(SWEEPS):
        changed = False
        for i in range(len(right)):
            for j in range(len(right)):
                size = float(right[j].astype(np.float64) @ right[j])
                share = int(np.rint(float(right[i].astype(np.float64) @ right[j]) / size)) if i != j else 0
                if (
                    share
                    and np.abs(right[j]).max() * abs(share) < SAFE
                    and np.abs(left[:, i]).max() * abs(share) < SAFE
                ):
                    right[i] -= share * right[j]
                    left[:, j] += share * left[:, i]
                    changed = True
        if not changed:
            return


def _nearest(values: np.ndarray, divisor: int) -> np.ndarray:
    """Return quotients rounded to the nearest integer, so that remainders halve at the least."""
    return (2 * values + abs(divisor)) // (2 * abs(divisor)) * (1 if divisor > 0 else -1)
