"""The bootstrap of whole groups: rows that are copies of one another count as one."""

from __future__ import annotations

import numpy as np
import pytest

from imbnas.longtail.intervals import bootstrap
from imbnas.longtail.resampling import resample

COUNTS = [150, 60, 10]


def answers(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, predictions of which two thirds are right, and confidences."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    predicted = np.where(rng.random(rows) < 0.66, labels, (labels + 1) % 3)
    return labels, predicted, rng.uniform(0.34, 1.0, rows)


def test_copies_in_a_group_add_nothing_to_what_is_known() -> None:
    labels, predicted, sure = answers(240)
    many = [np.repeat(values, 5) for values in (labels, predicted, sure)]
    one = resample(labels, [predicted], COUNTS, "kang", [sure], seed=1)[0]
    rows = resample(many[0], [many[1]], COUNTS, "kang", [many[2]], seed=1)[0]
    groups = resample(many[0], [many[1]], COUNTS, "kang", [many[2]], seed=1, groups=np.repeat(np.arange(240), 5))[0]
    assert groups.values == pytest.approx(one.values)
    for name in ("accuracy", "balanced_accuracy", "few", "macro_f1"):
        assert groups.draws[name].std() == pytest.approx(one.draws[name].std(), rel=0.12)
        assert rows.draws[name].std() < 0.6 * groups.draws[name].std()
        assert groups.draws[name].mean() == pytest.approx(one.values[name], abs=0.01)


def test_classes_of_one_group_vary_together() -> None:
    """Half of the patients are easy in all classes; within classes alone the mean recall would seem surer."""
    labels = np.tile(np.arange(3), 60)
    patients = np.repeat(np.arange(60), 3)
    predicted = np.where(patients % 2 == 0, labels, (labels + 1) % 3)
    whole = resample(labels, [predicted], COUNTS, "kang", groups=patients)[0].draws["balanced_accuracy"].std()
    rows = resample(labels, [predicted], COUNTS, "kang")[0].draws["balanced_accuracy"].std()
    assert whole == pytest.approx(np.sqrt(0.25 / 60), rel=0.1)
    assert rows == pytest.approx(np.sqrt(0.25 / 180), rel=0.1)


def test_a_class_of_a_single_group_does_not_vanish() -> None:
    labels = np.array([0] * 20 + [1] * 4 + [2] * 20)
    groups = np.concatenate([np.arange(20), np.full(4, 99), np.arange(20)])
    predicted = labels.copy()
    predicted[[0, 5, 21, 30]] = 0, 1, 2, 0
    run = resample(labels, [predicted], COUNTS, "kang", groups=groups, resamples=200)[0]
    assert all(np.isfinite(draws).all() for draws in run.draws.values())
    assert np.allclose(run.draws["medium"], 0.75)
    found = bootstrap(labels, predicted, COUNTS, "kang", resamples=200, groups=groups)
    low, high = found["balanced_accuracy"]
    assert low < run.values["balanced_accuracy"] < high
