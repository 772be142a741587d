"""Scores and paired differences from right answers: by hand, against a bootstrap, and as they are kept."""

from __future__ import annotations

import numpy as np
import pytest

from imbnas.longtail.metrics import standard_error
from imbnas.search.marking import Marking

OBJECTIVES = ["balanced_accuracy", "accuracy", "worst_class"]
LABELS = np.array([0, 0, 0, 0, 1, 1])


def bits(marking: Marking, *right: int) -> bytes:
    return marking.pack(np.array(right, bool))


def test_the_difference_by_hand() -> None:
    marking = Marking(LABELS, 2, "balanced_accuracy")
    first, second = bits(marking, 1, 1, 1, 0, 1, 0), bits(marking, 1, 0, 0, 0, 0, 1)
    found = marking.difference(first, second)
    # Class 0: x = 0, 1, 1, 0, of mean 1/2 and variance 1/4 over 4 rows; class 1: x = 1, -1, of mean 0 and variance 1
    # over 2.
    assert found.value == pytest.approx((0.5 + 0.0) / 2)
    assert found.standard_error == pytest.approx(np.sqrt(0.25 / 4 + 1.0 / 2) / 2)
    marking = Marking(LABELS, 2, "accuracy")
    found = marking.difference(first, second)
    assert found.value == pytest.approx(2 / 6)
    assert found.standard_error == pytest.approx(np.sqrt(4 * 0.25 + 2 * 1.0) / 6)


def test_the_worst_class_may_be_another_one() -> None:
    marking = Marking(LABELS, 2, "worst_class")
    # Recalls 1/4 and 1; 1 and 1/2.
    found = marking.difference(bits(marking, 1, 0, 0, 0, 1, 1), bits(marking, 1, 1, 1, 1, 1, 0))
    assert found.value == pytest.approx(0.25 - 0.5)
    assert found.standard_error == pytest.approx(np.sqrt(0.25 * 0.75 / 4 + 0.25 / 2))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_against_one_that_knows_nothing_the_error_is_the_scores_own(objective: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 4, 60))
    marking = Marking(labels, 5, objective)
    right = rng.random(60) < 0.6
    score = marking.score(marking.pack(right))
    assert score.value == getattr(score, objective)
    if objective == "worst_class":
        return
    found = marking.difference(marking.pack(right), marking.pack(np.zeros(60, bool)))
    assert found.value == pytest.approx(score.value)
    assert found.standard_error == pytest.approx(score.standard_error)


@pytest.mark.parametrize("objective", ["balanced_accuracy", "accuracy"])
def test_the_error_is_a_bootstraps(objective: str) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [80, 50, 30])
    hard = rng.random(160) < 0.5
    first, second = hard & (rng.random(160) < 0.9), hard & (rng.random(160) < 0.8)
    marking = Marking(labels, 3, objective)
    found = marking.difference(marking.pack(first), marking.pack(second))
    drawn = []
    for _ in range(4000):
        places = np.concatenate([rng.choice(np.flatnonzero(labels == k), np.sum(labels == k)) for k in range(3)])
        again = Marking(labels[places], 3, objective)
        drawn.append(again.difference(again.pack(first[places]), again.pack(second[places])).value)
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.05)
    unpaired = np.hypot(*(marking.score(marking.pack(r)).standard_error or 0.0 for r in (first, second)))
    assert found.standard_error < 0.8 * unpaired, "answers to the same rows go together"


def test_scores_are_those_of_the_counts() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 41)
    right = rng.random(41) < 0.5
    marking = Marking(labels, 4, "accuracy")
    score = marking.score(marking.pack(right))
    recall = np.array([right[labels == k].mean() for k in range(3)])
    assert score.balanced_accuracy == pytest.approx(recall.mean())
    assert score.accuracy == right.mean()
    assert score.worst_class == pytest.approx(recall.min())
    assert score.standard_error == pytest.approx(standard_error(recall, np.bincount(labels), "accuracy"))
    assert (marking.unpack(score.right or b"") == right).all()


def test_what_is_kept_is_a_bit_for_each_row() -> None:
    marking = Marking(LABELS, 2, "accuracy")
    coding = marking.coding()
    answers = bits(marking, 1, 0, 1, 1, 0, 1)
    assert len(answers) == 1
    assert coding.read(coding.write(answers)) == answers
    for wrong in ("", coding.write(answers + b"\0"), coding.write(b"\1"), 5, "%"):
        with pytest.raises((ValueError, TypeError)):
            coding.read(wrong)
