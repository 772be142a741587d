"""Calibration error and reliability table: how far confidence is from accuracy (numpy only)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbnas.errors import UserError

BinRule = Literal["upper", "lower"]
"""Which edge belongs to a bin: `upper` is (a, b], `lower` is [a, b)."""


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 15, rule: BinRule = "upper"
) -> float:
    """Return the mean over bins of `|accuracy - confidence|`, weighted by the share of rows (Guo et al. 2017).

    `confidence` (N,) is the predicted class's probability in [0, 1], `correct` (N,) whether the prediction is right.
    The rules differ only for confidences on an edge: see `reliability_table`.

    Raises:
        UserError: for no rows, unequal lengths, a confidence outside [0, 1], or an unknown rule.
    """
    table = reliability_table(confidence, correct, bins, rule)
    filled = table["rows"] > 0
    gaps = np.abs(table["accuracy"] - table["confidence"])[filled] * table["rows"][filled]
    return float(gaps.sum() / table["rows"].sum())


def reliability_table(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 15, rule: BinRule = "upper"
) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    """Return the reliability diagram as columns: `lower`, `upper` (edges), `rows`, `confidence`, `accuracy` (means).

    Means of an empty bin are NaN. Rule `upper`: bins (a, b] of equal width; a confidence of exactly 0 is in the first
    bin and 1 in the last. Rule `lower`: bins [a, b); 0 is in the first bin, and 1 has a bin of its own, [1, 1], after
    the others, so that the table has `bins` + 1 rows (that is what torchmetrics does).

    Raises:
        UserError: for no rows, unequal lengths, a confidence outside [0, 1], or an unknown rule.
    """
    values, right = check_confidence(confidence, correct)
    index, edges = confidence_bins(values, bins, rule)
    size = len(edges) - 1
    rows = np.bincount(index, minlength=size)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(index, weights=values, minlength=size) / rows
        mean_accuracy = np.bincount(index, weights=right, minlength=size) / rows
    return {
        "lower": edges[:-1],
        "upper": edges[1:],
        "rows": rows,
        "confidence": mean_confidence,
        "accuracy": mean_accuracy,
    }


def confidence_bins(
    confidence: NDArray[np.float64], bins: int, rule: BinRule = "upper"
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the bin of each confidence (N,) and the edges of the bins, as `reliability_table` describes them.

    Raises:
        UserError: for less than one bin or an unknown rule.
    """
    if bins < 1:
        raise UserError(f"bins: found {bins}, expected at least 1")
    # i / bins is the double nearest to the edge; a cumulated step would move 3 / 15 off 0.2.
    edges = np.arange(bins + 1) / bins
    if rule == "upper":
        return np.maximum(np.searchsorted(edges, confidence, side="left") - 1, 0), edges
    if rule == "lower":
        return np.searchsorted(edges, confidence, side="right") - 1, np.append(edges, 1.0)
    raise UserError(f"bin rule: found {rule!r}, expected upper or lower")


def check_confidence(confidence: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both (N,) as float64; UserError for no rows, unequal lengths or a confidence outside [0, 1]."""
    values, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if values.ndim != 1 or values.shape != right.shape or values.size == 0:
        raise UserError(
            f"calibration: found shapes {values.shape} and {right.shape}, expected (rows,) twice, not empty"
        )
    outside = np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))
    if outside.size:
        raise UserError(f"confidence: row {outside[0]} has {values[outside[0]]}, expected a probability in [0, 1]")
    return values, right
