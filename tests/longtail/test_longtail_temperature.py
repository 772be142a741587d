from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from imbnas.errors import UserError
from imbnas.longtail.temperature import HIGHEST, LOWEST, fit_temperature


def drawn(rows: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of which 1 / `scale` are the log-odds of the labels, and the labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, 5))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return scale * logits, labels


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_is_where_scipy_finds_the_smallest_likelihood_loss(scale: float) -> None:
    logits, labels = drawn(3000, scale)

    def loss(temperature: float) -> float:
        return -float(log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean())

    found = fit_temperature(logits, labels)
    best = minimize_scalar(loss, bounds=(LOWEST, HIGHEST), method="bounded", options={"xatol": 1e-8})
    assert found.value == pytest.approx(best.x, rel=1e-4)
    assert found.value == pytest.approx(scale, rel=0.1)
    assert found.rows == 3000
    assert found.nll == pytest.approx((loss(1.0), loss(found.value)), rel=1e-4)
    assert found.nll[1] <= found.nll[0]


def test_rows_that_are_all_right_or_all_wrong_do_not_ask_for_ever_more() -> None:
    logits = 1000 * np.eye(3)
    assert fit_temperature(logits, [0, 1, 2]).value == LOWEST
    assert fit_temperature(logits, [1, 2, 0]).value == HIGHEST


def test_what_all_logits_of_a_row_share_changes_nothing() -> None:
    logits, labels = drawn(200, 2.0)
    assert fit_temperature(logits + np.arange(200)[:, None], labels).value == fit_temperature(logits, labels).value


@pytest.mark.parametrize(
    ("logits", "labels"),
    [(np.zeros((0, 3)), []), (np.zeros((2, 3)), [0]), (np.zeros((1, 3)), [3]), ([[np.nan, 0.0]], [0])],
)
def test_what_is_not_logits_and_labels(logits: np.ndarray, labels: list[int]) -> None:
    with pytest.raises(UserError, match=r"^temperature: found "):
        fit_temperature(logits, labels)
