"""Temperature scaling: one number by which logits are divided, so that probabilities are as sure as they are right.

Guo et al. 2017: the temperature minimises the mean negative log-likelihood of rows that were not trained on. Classes
keep their order. Numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbnas.errors import UserError

LOWEST, HIGHEST = 0.1, 10.0
"""A few rows that are all answered right would ask for 0, for probabilities of exactly 1."""
_HALVINGS = 40


@dataclass(frozen=True)
class Temperature:
    """A temperature, the rows on which it was fitted, and their mean negative log-likelihood without it and with it."""

    value: float
    rows: int
    nll: tuple[float, float]


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> Temperature:
    """Return the temperature from 0.1 to 10 that suits logits (N, C) and labels (N,) best.

    The likelihood is concave in the inverse temperature, so that its slope has one zero at most.

    Raises:
        UserError: for no rows, unequal lengths, a label that is not below C, or logits that are not finite.
    """
    values, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or truth.shape != values.shape[:1] or not truth.size:
        raise UserError(f"temperature: found {values.shape} and {truth.shape}, expected (rows, classes) and (rows,)")
    if truth.min() < 0 or truth.max() >= values.shape[1] or not np.isfinite(values).all():
        raise UserError("temperature: found a label without a logit, or a logit that is not finite, expected neither")
    # No probability depends on what all logits of a row have in common, and exponentials of these cannot overflow.
    values = values - values.max(axis=1, keepdims=True)
    own = values[np.arange(len(truth)), truth]
    low, high = -math.log(HIGHEST), -math.log(LOWEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _slope(values, own, math.exp(middle)) > 0.0:
            high = middle
        else:
            low = middle
    # Six digits are more than the rows tell, and the same wherever the last bits of a sum are others.
    value = float(f"{math.exp(-(low + high) / 2):.6g}")
    return Temperature(value, len(truth), (_nll(values, own, 1.0), _nll(values, own, 1.0 / value)))


def _slope(values: NDArray[np.float64], own: NDArray[np.float64], inverse: float) -> float:
    """Return the derivative of the mean negative log-likelihood by the inverse temperature."""
    weights = np.exp(inverse * values)
    return float(((weights * values).sum(axis=1) / weights.sum(axis=1) - own).mean())


def _nll(values: NDArray[np.float64], own: NDArray[np.float64], inverse: float) -> float:
    mean = (np.log(np.exp(inverse * values).sum(axis=1)) - inverse * own).mean()
    return float(f"{mean:.6g}")
