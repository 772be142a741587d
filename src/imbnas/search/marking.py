"""Scores from the right and wrong answers to the same validation rows, and the differences between two of them."""

from __future__ import annotations

import base64
import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbnas.longtail.metrics import standard_error
from imbnas.search.archive import Score
from imbnas.search.kept_scores import Coding
from imbnas.training.scoring import Tally

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def score_of(tally: Tally, objective: str) -> Score:
    """Return the accuracies that a tally shows, with the standard error of the one that is searched for."""
    found = {
        "balanced_accuracy": tally.balanced_accuracy,
        "accuracy": tally.accuracy,
        "worst_class": float(np.nanmin(tally.recall)),
    }
    error = standard_error(tally.recall, tally.support, objective)
    return Score(found[objective], error, found["balanced_accuracy"], found["accuracy"], found["worst_class"])


@dataclass(frozen=True)
class Difference:
    """The score of one architecture minus that of another, with the standard error of this paired difference."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Marking:
    """The labels of the validation rows (N,), the number of classes, and the accuracy that is searched for.

    Answers are bits, see `Score.right`.
    """

    labels: NDArray[np.int64]
    classes: int
    objective: str

    @cached_property
    def support(self) -> NDArray[np.int64]:
        """Return the rows of each class."""
        return np.bincount(self.labels, minlength=self.classes)

    def pack(self, right: Bools) -> bytes:
        """Return the bits of right answers (N,)."""
        return np.packbits(right).tobytes()

    def unpack(self, answers: bytes) -> Bools:
        """Return the right answers (N,) of some bits."""
        return np.unpackbits(np.frombuffer(answers, np.uint8), count=len(self.labels)).astype(bool)

    def coding(self) -> Coding[bytes]:
        """Return how answers are kept: bits in base64."""

        def read(value: Any) -> bytes:
            answers = base64.b64decode(value, validate=True)
            if self.pack(self.unpack(answers)) != answers:
                raise ValueError(f"found {len(answers)} bytes, expected a bit for each of {len(self.labels)} rows")
            return answers

        return Coding(lambda answers: base64.b64encode(answers).decode(), read)

    def score(self, answers: bytes) -> Score:
        """Return all accuracies of some answers, with the standard error of the one that is searched for."""
        right = self.unpack(answers)
        tally = Tally(np.bincount(self.labels[right], minlength=self.classes), self.support, right)
        return dataclasses.replace(score_of(tally, self.objective), right=answers)

    def value_on(self, answers: bytes, places: NDArray[np.int64]) -> float:
        """Return the score on some of the rows, over the classes that have rows among them."""
        part = Marking(self.labels[places], self.classes, self.objective)
        return part.score(part.pack(self.unpack(answers)[places])).value

    def difference(self, first: bytes, second: bytes) -> Difference:
        """Return the score of the first answers minus that of the second on the same rows, with its standard error.

        Rows on which both are right or both are wrong add nothing to it. With x = 1, 0 or -1 on each row, m_k the mean
        of x over the n_k rows of class k and v_k = mean(x^2) - m_k^2, the error is sqrt(sum v_k / n_k) / C of balanced
        accuracy, sqrt(sum n_k v_k) / N of accuracy. The worst class may be another one for each of the two: then the
        variances of both recalls add up. It is the error of one pair that was not chosen for its difference.
        """
        right = [self.unpack(first), self.unpack(second)]
        present = self.support > 0
        rows = self.support[present].astype(np.float64)
        recalls = [np.bincount(self.labels[r], minlength=self.classes)[present] / rows for r in right]
        differing = right[0] != right[1]
        unequal = np.bincount(self.labels[differing], minlength=self.classes)[present] / rows
        gap = recalls[0] - recalls[1]
        variances = (unequal - gap**2) / rows
        if self.objective == "balanced_accuracy":
            return Difference(float(gap.mean()), float(np.sqrt(variances.sum())) / len(rows))
        if self.objective == "accuracy":
            total = rows.sum()
            return Difference(float((rows * gap).sum() / total), float(np.sqrt((rows**2 * variances).sum()) / total))
        worst = [int(np.argmin(recall)) for recall in recalls]
        value = float(recalls[0][worst[0]] - recalls[1][worst[1]])
        if worst[0] == worst[1]:
            return Difference(value, float(np.sqrt(variances[worst[0]])))
        apart = [recall[k] * (1.0 - recall[k]) / rows[k] for recall, k in zip(recalls, worst, strict=True)]
        return Difference(value, float(np.sqrt(sum(apart))))
