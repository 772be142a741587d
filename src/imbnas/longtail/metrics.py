"""Scores of predictions when classes differ in size: per class and per shot group (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbnas.errors import UserError
from imbnas.longtail.shots import GROUPS, Rule, shot_groups

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SCORES = (
    "accuracy",
    "balanced_accuracy",
    *GROUPS,
    "worst_class",
    "harmonic_mean",
    "geometric_mean",
    "macro_f1",
)
"""The single numbers of `summarise`, in its order."""


def summarise(labels: ArrayLike, predictions: ArrayLike, counts: ArrayLike, rule: Rule) -> dict[str, Any]:
    """Return the scores of predictions (N,) against labels (N,), both class indices below C.

    Args:
        labels: true classes.
        predictions: predicted classes.
        counts: training rows of each class (C,): the shot groups follow from them and `rule`.
        rule: see `shots.shot_groups`.

    Returns:
        Shares in [0, 1]: `accuracy` (of the rows); `balanced_accuracy` (mean recall of the classes); `many`, `medium`,
        `few` (mean recall of the group, None when it is empty); `worst_class` (smallest recall); `harmonic_mean` and
        `geometric_mean` of the recalls (0 when one is 0); `macro_f1` (mean F1 of the classes that occur as label or
        prediction, as scikit-learn's). Then arrays (C,): `recall`, `precision`, `f1`, and `support` (rows).
        A class without test rows has recall NaN and is in no mean of recalls; a class that is never predicted has
        precision 0; a class that occurs in neither has NaN throughout.

    Raises:
        UserError: for no rows, unequal lengths, or a class index that is not below C.
    """
    truth, guess, groups = checked(labels, predictions, counts, rule)
    classes = len(groups)
    support = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[truth == guess], minlength=classes)
    predicted = np.bincount(guess, minlength=classes)
    found = {name: float(value[0]) for name, value in scores(support, hits[None], predicted[None], groups).items()}
    summary: dict[str, Any] = {name: found.get(name) for name in SCORES}
    summary["recall"] = _ratio(hits, support)
    summary["precision"] = np.where(predicted > 0, hits / np.maximum(predicted, 1), np.where(support > 0, 0.0, np.nan))
    summary["f1"] = _ratio(2 * hits, support + predicted)
    summary["support"] = support
    return summary


def standard_error(recall: ArrayLike, support: ArrayLike, of: str = "balanced_accuracy") -> float:
    """Return the standard error of a score from the classes' binomial variances r (1 - r) / n.

    Args:
        recall: of each class (C,).
        support: rows of each class (C,); classes without rows do not count.
        of: `balanced_accuracy`: sqrt(sum_k r_k (1 - r_k) / n_k) / C. `accuracy`: sqrt(sum_k n_k r_k (1 - r_k)) / N, the
            numbers of rows being given. `worst_class`: that of the class itself, of equals the largest; that it was
            chosen as the smallest is not in it.

    Raises:
        UserError: when no class has rows, or for another score.
    """
    rows = np.asarray(support, dtype=np.float64)
    present = rows > 0
    if not present.any():
        raise UserError("standard error: found no class with rows, expected at least one")
    recalls, rows = np.asarray(recall, dtype=np.float64)[present], rows[present]
    variances = recalls * (1.0 - recalls) / rows
    if of == "balanced_accuracy":
        return float(np.sqrt(variances.sum()) / len(rows))
    if of == "accuracy":
        return float(np.sqrt((rows**2 * variances).sum()) / rows.sum())
    if of == "worst_class":
        return float(np.sqrt(variances[recalls == recalls.min()].max()))
    raise UserError(f"standard error: found {of}, expected balanced_accuracy, accuracy or worst_class")


def forward_backward(
    recall: ArrayLike, counts: ArrayLike, ratios: Sequence[float] = (50.0, 25.0, 10.0, 5.0, 2.0)
) -> dict[str, float]:
    """Return the accuracy under test distributions that are long-tailed themselves (Zhang et al. 2022, SADE).

    `forward-50` is a test split whose class shares fall exponentially by 50 from the class with the most
    training rows to the one with the fewest; `backward-50` rises so; `uniform` is the balanced accuracy.
    Instead of test subsets the recalls (C,) are weighted by the shares, which is their expectation and uses
    every test row. Equal `counts` (C,) rank in label order; classes with recall NaN (no test rows) leave their
    share to the others.

    Raises:
        UserError: for no class with a recall, unequal lengths, or a ratio below 1.
    """
    recalls, sizes = np.asarray(recall, dtype=np.float64), np.asarray(counts)
    present = ~np.isnan(recalls)
    if recalls.shape != sizes.shape or recalls.ndim != 1 or not present.any():
        raise UserError(f"recalls: found {present.sum()} in {recalls.shape} for counts {sizes.shape}, expected a match")
    if min(ratios, default=1.0) < 1.0:
        raise UserError(f"ratios: found {min(ratios)}, expected numbers of at least 1")
    place = np.empty(len(sizes))
    place[np.argsort(-sizes.astype(np.float64), kind="stable")] = np.arange(len(sizes)) / max(len(sizes) - 1, 1)

    def accuracy(exponent: Floats, ratio: float) -> float:
        shares = ratio ** -exponent[present]
        return float((shares * recalls[present]).sum() / shares.sum())

    forward = {f"forward-{ratio:g}": accuracy(place, ratio) for ratio in ratios}
    backward = {f"backward-{ratio:g}": accuracy(1.0 - place, ratio) for ratio in reversed(ratios)}
    return forward | {"uniform": accuracy(place, 1.0)} | backward


def checked(
    labels: ArrayLike, predictions: ArrayLike, counts: ArrayLike, rule: Rule
) -> tuple[Ints, Ints, NDArray[np.str_]]:
    """Return labels (N,), predictions (N,) and the classes' groups (C,), or raise UserError as `summarise` does."""
    groups = np.asarray(shot_groups(counts, rule))
    truth, guess = np.asarray(labels), np.asarray(predictions)
    if truth.ndim != 1 or truth.shape != guess.shape or truth.size == 0:
        raise UserError(f"labels {truth.shape} and predictions {guess.shape}: expected (rows,) twice, not empty")
    for name, values in (("labels", truth), ("predictions", guess)):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(groups):
            raise UserError(
                f"{name}: found {values.dtype} from {values.min()} to {values.max()}, "
                f"expected class indices from 0 to {len(groups) - 1}"
            )
    return truth.astype(np.int64), guess.astype(np.int64), groups


def scores(support: Ints, hits: Ints, predicted: Ints, groups: NDArray[np.str_]) -> dict[str, Floats]:
    """Return the single numbers of `summarise` for R sets of predictions at once, each an array (R,).

    `support` (C,) and `groups` (C,) are the rows and the shot group of each class; `hits` (R, C) and `predicted` (R, C)
    the right predictions and all predictions of each class. An empty shot group has no entry.
    """
    present = support > 0
    recall = hits[:, present] / support[present]
    found = {"accuracy": hits.sum(axis=1) / support.sum(), "balanced_accuracy": recall.mean(axis=1)}
    for group in GROUPS:
        members = groups[present] == group
        if members.any():
            found[group] = recall[:, members].mean(axis=1)
    found["worst_class"] = recall.min(axis=1)
    # A recall of 0 makes both means 0, by way of 1 / inf and exp(-inf).
    with np.errstate(divide="ignore"):
        found["harmonic_mean"] = 1.0 / (1.0 / recall).mean(axis=1)
        found["geometric_mean"] = np.exp(np.log(recall).mean(axis=1))
    occurring = support + predicted
    f1 = 2 * hits / np.maximum(occurring, 1)
    found["macro_f1"] = f1.sum(axis=1) / (occurring > 0).sum(axis=1)
    return found


def _ratio(part: Ints, whole: Ints) -> Floats:
    """Return part / whole, NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
