"""The figures of one network, from its answers on the test rows (numpy and pandas only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from imbnas.longtail.calibration import expected_calibration_error, reliability_table
from imbnas.longtail.intervals import bootstrap
from imbnas.longtail.metrics import forward_backward, standard_error, summarise
from imbnas.longtail.shots import GROUPS, Rule, shot_groups

BIN_RULE = "bins (a, b] of equal width, a confidence of 0 in the first"
"""Which edge of a confidence bin belongs to it, in words."""
INTERVAL_RULE = (
    "percentiles of a bootstrap of the test rows within each class; of calibration errors and of the harmonic and "
    "geometric mean, mirrored at the score"
)
"""How intervals are made, in words."""
GROUP_RULE = (
    "percentiles of a Bayesian bootstrap of the groups of test rows, each class with its share of the rows; of "
    "calibration errors and of the harmonic and geometric mean, mirrored at the score"
)
"""The same where rows have groups."""


@dataclass(frozen=True)
class Answers:
    """A network's answers on N test rows: true labels, predicted labels, and its confidence in the latter.

    `groups` are the numbers of the rows' groups, where they have any: intervals resample them as a whole.
    """

    actual: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Protocol:
    """The rules for measuring answers: training rows of each class (C,), shot rule, bins of the calibration error, and
    level, number of resamples and seed of the intervals."""

    counts: np.ndarray
    shots: Rule
    bins: int
    confidence: float
    resamples: int
    seed: int


def score(answers: Answers, names: list[str], protocol: Protocol) -> dict[str, Any]:
    """Return all figures of a network as JSON values: shares in [0, 1], None for an empty shot group.

    The calibration error of a group is that of the rows whose true class is in it. `names` are the class names.
    """
    actual, predicted = answers.actual, answers.predicted
    summary = summarise(actual, predicted, protocol.counts, protocol.shots)
    correct = actual == predicted
    groups = np.asarray(shot_groups(protocol.counts, protocol.shots))[actual]
    intervals = bootstrap(
        actual,
        predicted,
        protocol.counts,
        protocol.shots,
        answers.confidence,
        protocol.bins,
        protocol.resamples,
        protocol.confidence,
        protocol.seed,
        answers.groups,
    )
    scalars = {key: value for key, value in summary.items() if not isinstance(value, np.ndarray)}
    return {
        **scalars,
        "worst_class_name": names[int(np.nanargmin(summary["recall"]))],
        "standard_error": standard_error(summary["recall"], summary["support"]),
        "ece": expected_calibration_error(answers.confidence, correct, protocol.bins),
        "ece_by_group": {
            group: expected_calibration_error(answers.confidence[inside], correct[inside], protocol.bins)
            if (inside := groups == group).any()
            else None
            for group in GROUPS
        },
        "shifted_test": forward_backward(summary["recall"], protocol.counts),
        "intervals": {key: list(bounds) for key, bounds in intervals.items()},
    }


def reliability(answers: Answers, protocol: Protocol) -> pd.DataFrame:
    """Return a row per bin of confidence for all rows (`all`) and for those of each shot group that has any.

    Columns: group, lower, upper, rows, confidence, accuracy; the last two are NaN in an empty bin.
    """
    groups = np.asarray(shot_groups(protocol.counts, protocol.shots))[answers.actual]
    parts = []
    for name in ("all", *GROUPS):
        inside = np.full(len(groups), True) if name == "all" else groups == name
        if inside.any():
            correct = answers.actual[inside] == answers.predicted[inside]
            bins = reliability_table(answers.confidence[inside], correct, protocol.bins)
            parts.append(pd.DataFrame({"group": name, **bins}))
    return pd.concat(parts, ignore_index=True)


def class_table(network: str, answers: Answers, names: list[str], protocol: Protocol) -> pd.DataFrame:
    """Return a row per class: network, label, class, count, group, support, recall, precision, f1, predicted.

    `count` is of training rows, `support` of test rows, `predicted` of predictions; recall is NaN without test rows.
    """
    summary = summarise(answers.actual, answers.predicted, protocol.counts, protocol.shots)
    return pd.DataFrame(
        {
            "network": network,
            "label": np.arange(len(names)),
            "class": names,
            "count": protocol.counts,
            "group": shot_groups(protocol.counts, protocol.shots),
            "support": summary["support"],
            "recall": summary["recall"],
            "precision": summary["precision"],
            "f1": summary["f1"],
            "predicted": np.bincount(answers.predicted, minlength=len(names)),
        }
    )


def rounded(value: Any) -> Any:
    """Return JSON values with every float rounded to six decimals."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value
