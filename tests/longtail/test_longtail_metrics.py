import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    recall_score,
)

from imbnas.errors import UserError
from imbnas.longtail.metrics import SCORES, forward_backward, scores, standard_error, summarise
from imbnas.longtail.shots import Thresholds


def toy():
    """Return three classes with recalls 1, 1/2 and 1/4, trained on 200, 50 and 5 rows."""
    labels = [0] * 2 + [1] * 4 + [2] * 4
    predictions = [0, 0, 1, 1, 0, 0, 2, 0, 0, 1]
    return labels, predictions, [200, 50, 5]


def test_toy_by_hand():
    summary = summarise(*toy(), "kang")
    assert list(summary) == [*SCORES, "recall", "precision", "f1", "support"]
    assert summary["accuracy"] == 0.5
    assert summary["balanced_accuracy"] == pytest.approx(1.75 / 3)
    assert (summary["many"], summary["medium"], summary["few"]) == (1.0, 0.5, 0.25)
    assert summary["worst_class"] == 0.25
    assert summary["harmonic_mean"] == pytest.approx(3 / (1 + 2 + 4))
    assert summary["geometric_mean"] == pytest.approx(0.5)
    np.testing.assert_allclose(summary["precision"], [2 / 6, 2 / 3, 1.0])
    np.testing.assert_allclose(summary["f1"], [4 / 8, 4 / 7, 2 / 5])
    assert summary["macro_f1"] == pytest.approx((4 / 8 + 4 / 7 + 2 / 5) / 3)
    np.testing.assert_array_equal(summary["support"], [2, 4, 4])


def test_empty_groups_are_none():
    labels, predictions, _ = toy()
    summary = summarise(labels, predictions, [500, 300, 101], "kang")
    assert summary["many"] == pytest.approx(1.75 / 3)
    assert summary["medium"] is None
    assert summary["few"] is None


def test_group_is_by_training_count_not_by_test_rows():
    labels, predictions, _ = toy()
    summary = summarise(labels, predictions, [5, 50, 200], "kang")
    assert (summary["many"], summary["few"]) == (0.25, 1.0)


def test_zero_recall():
    summary = summarise([0, 1], [0, 0], [9, 1], "thirds")
    assert summary["worst_class"] == summary["harmonic_mean"] == summary["geometric_mean"] == 0.0


def test_classes_without_test_rows():
    """Class 2 is predicted but has no row, class 3 occurs nowhere, class 1 is never predicted."""
    summary = summarise([0, 0, 1], [0, 2, 0], [9, 8, 7, 6], Thresholds(8, 8))
    np.testing.assert_array_equal(summary["recall"], [0.5, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(summary["precision"], [0.5, 0.0, 0.0, np.nan])
    np.testing.assert_array_equal(summary["f1"], [0.5, 0.0, 0.0, np.nan])
    assert summary["balanced_accuracy"] == 0.25
    assert summary["macro_f1"] == pytest.approx(0.5 / 3)
    assert (summary["many"], summary["medium"], summary["few"]) == (0.5, 0.0, None)


@st.composite
def outcomes(draw):
    classes = draw(st.integers(2, 6))
    index = st.integers(0, classes - 1)
    pairs = draw(st.lists(st.tuples(index, index), min_size=1, max_size=60))
    labels, predictions = zip(*pairs, strict=True)
    return classes, list(labels), list(predictions)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None)
@given(outcomes())
def test_against_scikit_learn(outcome):
    classes, labels, predictions = outcome
    summary = summarise(labels, predictions, [50] * classes, "kang")
    assert summary["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert summary["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predictions))
    assert summary["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro", zero_division=0))
    every = {"labels": range(classes), "average": None, "zero_division": 0}
    for name, score in (("recall", recall_score), ("precision", precision_score), ("f1", f1_score)):
        np.testing.assert_allclose(np.nan_to_num(summary[name]), score(labels, predictions, **every))


@settings(deadline=None)
@given(outcomes())
def test_means_are_ordered_and_groups_agree(outcome):
    classes, labels, predictions = outcome
    summary = summarise(labels, predictions, [50] * classes, "kang")
    assert summary["medium"] == summary["balanced_accuracy"]
    order = ["worst_class", "harmonic_mean", "geometric_mean", "balanced_accuracy"]
    values = [summary[name] for name in order]
    assert all(a <= b + 1e-12 for a, b in pairwise(values))
    if len(set(np.bincount(labels, minlength=classes).tolist())) == 1:
        assert summary["accuracy"] == pytest.approx(summary["balanced_accuracy"])


def test_standard_error():
    expected = math.sqrt(0.25 / 4 + 0.1875 / 4) / 3
    assert standard_error([1.0, 0.5, 0.25], [2, 4, 4]) == pytest.approx(expected)
    assert standard_error([1.0, 0.5, 0.25, np.nan], [2, 4, 4, 0]) == pytest.approx(expected)
    with pytest.raises(UserError, match="no class with rows"):
        standard_error([np.nan], [0])


@pytest.mark.parametrize("of", ["balanced_accuracy", "accuracy", "worst_class"])
def test_each_score_has_its_own_standard_error(of):
    """A binomial for each class; the rarest is so much the worst that it always is the smallest."""
    recall, support = np.array([0.9, 0.7, 0.3]), np.array([400, 100, 30])
    hits = np.random.default_rng(0).binomial(support, recall, (20_000, 3))
    groups = np.array(["many", "medium", "few"])
    seen = scores(support, hits, np.tile(support, (20_000, 1)), groups)[of].std()
    assert standard_error(recall, support, of) == pytest.approx(seen, rel=0.03)
    with pytest.raises(UserError, match="found few, expected balanced_accuracy"):
        standard_error(recall, support, "few")


def test_forward_and_backward_by_hand():
    """Ratio 4 over three classes gives shares 4 : 2 : 1 from the head, and 1 : 2 : 4."""
    scores = forward_backward([0.9, 0.6, 0.3], [100, 10, 1], ratios=(4.0,))
    assert list(scores) == ["forward-4", "uniform", "backward-4"]
    assert scores["forward-4"] == pytest.approx((4 * 0.9 + 2 * 0.6 + 0.3) / 7)
    assert scores["uniform"] == pytest.approx(0.6)
    assert scores["backward-4"] == pytest.approx((0.9 + 2 * 0.6 + 4 * 0.3) / 7)


def test_forward_and_backward_follow_counts_and_skip_missing_classes():
    default = forward_backward([0.3, 0.9, 0.6], [1, 100, 10])
    assert list(default) == [
        *(f"forward-{r}" for r in (50, 25, 10, 5, 2)),
        "uniform",
        *(f"backward-{r}" for r in (2, 5, 10, 25, 50)),
    ]
    assert list(default.values()) == sorted(default.values(), reverse=True)
    assert default["forward-50"] == pytest.approx(forward_backward([0.9, 0.6, 0.3], [100, 10, 1])["forward-50"])
    partial = forward_backward([0.9, np.nan, 0.3], [100, 10, 1], ratios=(4.0,))
    assert partial["forward-4"] == pytest.approx((4 * 0.9 + 0.3) / 5)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(1, 100))
def test_forward_and_backward_mirror_each_other(recall, ratio):
    counts = list(range(len(recall), 0, -1))
    scores = forward_backward(recall, counts, ratios=(ratio,))
    mirrored = forward_backward(recall[::-1], counts, ratios=(ratio,))
    assert scores[f"forward-{ratio:g}"] == pytest.approx(mirrored[f"backward-{ratio:g}"])
    assert scores["uniform"] == pytest.approx(np.mean(recall))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summarise([], [], [1], "kang"), "not empty"),
        (lambda: summarise([0], [0, 0], [1], "kang"), "expected \\(rows,\\) twice"),
        (lambda: summarise([0, 1], [0, 2], [1, 1], "kang"), "predictions: found int64 from 0 to 2, .* 0 to 1"),
        (lambda: summarise([0, -1], [0, 1], [1, 1], "kang"), "labels: found int64 from -1"),
        (lambda: summarise([0.0, 1.0], [0, 1], [1, 1], "kang"), "labels: found float64"),
        (lambda: summarise([0], [0], [1], "quarters"), "shot rule"),
        (lambda: forward_backward([np.nan], [1]), "found 0"),
        (lambda: forward_backward([0.5], [1, 2]), "expected a match"),
        (lambda: forward_backward([0.5], [1], ratios=(0.5,)), "ratios: found 0.5"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call()
