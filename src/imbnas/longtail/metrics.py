"""How good predictions are when classes differ in size: per class, per shot group, and with intervals (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbnas.errors import UserError
from imbnas.longtail.shots import GROUPS, Rule, shot_groups

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
    truth, guess, groups = _checked(labels, predictions, counts, rule)
    classes = len(groups)
    support = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[truth == guess], minlength=classes)
    predicted = np.bincount(guess, minlength=classes)
    summary: dict[str, Any] = dict(_scores(support, hits, predicted, groups))
    summary["recall"] = _ratio(hits, support)
    summary["precision"] = np.where(predicted > 0, hits / np.maximum(predicted, 1), np.where(support > 0, 0.0, np.nan))
    summary["f1"] = _ratio(2 * hits, support + predicted)
    summary["support"] = support
    return summary


def standard_error(recall: ArrayLike, support: ArrayLike) -> float:
    """Return the standard error of the balanced accuracy: sqrt(sum_k r_k (1 - r_k) / n_k) / C.

    `recall` (C,) and `support` (C,), the rows of each class, are of the test split; classes without rows do not count.

    Raises:
        UserError: when no class has rows.
    """
    rows = np.asarray(support, dtype=np.float64)
    present = rows > 0
    if not present.any():
        raise UserError("standard error: found no class with rows, expected at least one")
    recalls = np.asarray(recall, dtype=np.float64)[present]
    return float(np.sqrt((recalls * (1.0 - recalls) / rows[present]).sum()) / present.sum())


def bootstrap(
    labels: ArrayLike,
    predictions: ArrayLike,
    counts: ArrayLike,
    rule: Rule,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals (low, high) of the scores of `summarise`, by a bootstrap within each class.

    Each resample draws as many rows of a class as it has, with replacement, so that the test split's composition is
    kept and no class vanishes. Empty shot groups have no entry.

    Args:
        labels: true classes (N,).
        predictions: predicted classes (N,).
        counts: training rows of each class (C,).
        rule: see `shots.shot_groups`.
        resamples: number of resamples, at least 1.
        confidence: level of the intervals, in (0, 1).
        seed: of the draws.

    Raises:
        UserError: as `summarise`, and for resamples or a confidence out of range.
    """
    if resamples < 1 or not 0.0 < confidence < 1.0:
        raise UserError(f"bootstrap: found {resamples} resamples at {confidence}, expected at least 1 in (0, 1)")
    truth, guess, groups = _checked(labels, predictions, counts, rule)
    order = np.argsort(truth, kind="stable")
    guess = guess[order]
    hit = (guess == truth[order]).astype(np.int64)
    support = np.bincount(truth, minlength=len(groups))
    present = np.flatnonzero(support)
    starts = (np.cumsum(support) - support)[present]
    first, rows = np.repeat(starts, support[present]), np.repeat(support[present], support[present])
    rng = np.random.default_rng(seed)
    hits = np.zeros_like(support)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        drawn = first + rng.integers(0, rows)
        hits[present] = np.add.reduceat(hit[drawn], starts)
        predicted = np.bincount(guess[drawn], minlength=len(groups))
        for name, value in _scores(support, hits, predicted, groups).items():
            if value is not None:
                draws.setdefault(name, []).append(value)
    tail = (1.0 - confidence) / 2.0
    return {name: _interval(values, tail) for name, values in draws.items()}


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


def _checked(
    labels: ArrayLike, predictions: ArrayLike, counts: ArrayLike, rule: Rule
) -> tuple[Ints, Ints, NDArray[np.str_]]:
    """Return labels, predictions and the classes' groups, or raise UserError."""
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


def _scores(support: Ints, hits: Ints, predicted: Ints, groups: NDArray[np.str_]) -> dict[str, float | None]:
    """Return the single numbers of `summarise` from each class's rows, right predictions and predictions."""
    present = support > 0
    recall = hits[present] / support[present]
    scores: dict[str, float | None] = {
        "accuracy": float(hits.sum() / support.sum()),
        "balanced_accuracy": float(recall.mean()),
    }
    for group in GROUPS:
        members = recall[groups[present] == group]
        scores[group] = float(members.mean()) if members.size else None
    worst = float(recall.min())
    scores["worst_class"] = worst
    scores["harmonic_mean"] = float(1.0 / (1.0 / recall).mean()) if worst > 0 else 0.0
    scores["geometric_mean"] = float(np.exp(np.log(recall).mean())) if worst > 0 else 0.0
    occurring = support + predicted
    named = occurring > 0
    scores["macro_f1"] = float((2 * hits[named] / occurring[named]).mean())
    return scores


def _ratio(part: Ints, whole: Ints) -> Floats:
    """Return part / whole, NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _interval(values: list[float], tail: float) -> tuple[float, float]:
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)
