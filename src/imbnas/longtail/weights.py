"""Class weights from class counts: inverse frequency and the effective number of samples (numpy only)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbnas.errors import UserError

Weighting = Literal["none", "inverse-frequency", "effective-number"]
"""How a loss weighs its classes."""


def check_counts(counts: ArrayLike) -> NDArray[np.float64]:
    """Return class counts (C,) as float64, after checking that every class has at least one training row.

    Counts are those of the whole training split, never of a batch: a class that is absent has no weight, margin or
    log-prior.

    Raises:
        UserError: naming the first class whose count is below 1 or not finite, or when there is no class.
    """
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise UserError(f"class counts: found shape {values.shape}, expected one number for each class")
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 1)))
    if bad.size:
        first = int(bad[0])
        raise UserError(f"class counts: class {first} has {values[first]:g} training rows, expected at least 1")
    return values


def mean_one(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `weights` (C,) scaled so that their mean is 1, that is their sum is the number of classes."""
    return np.asarray(weights / weights.mean(), dtype=np.float64)


def inverse_frequency_weights(counts: ArrayLike, power: float = 1.0) -> NDArray[np.float64]:
    """Return weights (C,) in proportion to n_k^-power with mean 1; power 0.5 is the usual square-root weighting.

    Raises:
        UserError: for a class without rows.
    """
    return mean_one(check_counts(counts) ** -power)


def effective_number_weights(counts: ArrayLike, beta: float = 0.9999) -> NDArray[np.float64]:
    """Return class-balanced weights (C,) with mean 1: w_k ~ (1 - beta) / (1 - beta^n_k) (Cui et al. 2019).

    beta 0 weighs all classes alike; towards 1 the weights go to inverse frequency. With counts far above
    1 / (1 - beta) the effective number is saturated and all weights are equal again.

    Raises:
        UserError: for a class without rows, or beta outside [0, 1).
    """
    values = check_counts(counts)
    if not 0.0 <= beta < 1.0:
        raise UserError(f"beta: found {beta}, expected a number in [0, 1)")
    if beta == 0.0:
        return np.ones_like(values)
    # 1 - beta^n loses its digits where beta^n is close to 1; expm1 keeps them.
    return mean_one(-1.0 / np.expm1(values * np.log(beta)))


def class_weights(weighting: Weighting, counts: ArrayLike, beta: float = 0.9999) -> NDArray[np.float64] | None:
    """Return the weights (C,) that `weighting` names, or None for `none`; `beta` is of `effective-number` only.

    Raises:
        UserError: for a class without rows, an unknown name, or beta outside [0, 1).
    """
    if weighting not in get_args(Weighting):
        raise UserError(f"weighting: found {weighting!r}, expected one of {', '.join(get_args(Weighting))}")
    if weighting == "inverse-frequency":
        return inverse_frequency_weights(counts)
    if weighting == "effective-number":
        return effective_number_weights(counts, beta)
    return None
