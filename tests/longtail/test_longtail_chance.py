"""The choice against chance: how often the interval excludes 0 where the chosen network is one more random one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from imbnas.errors import UserError
from imbnas.longtail.chance import against_random, beaten, mean_of_networks, verdict
from imbnas.longtail.resampling import Resampled, resample
from imbnas.longtail.shots import make_rule

RULE = make_rule("thirds", 100, 20)
COUNTS = np.array([100, 50, 20, 5])


def networks(rng: np.random.Generator, number: int, rows: int, spread: float, apart: float = 0.0) -> list[Resampled]:
    """Return runs of networks whose accuracies differ by `spread`, the first one's by `apart` more."""
    labels = np.repeat(np.arange(4), rows // 4)
    hard = rng.normal(0.0, 1.0, rows)
    guesses = []
    for place in range(number):
        level = rng.normal(0.6, spread) + (apart if place == 0 else 0.0)
        right = hard + rng.normal(0.0, 1.0, rows) < np.sqrt(2.0) * _quantile(level)
        guesses.append(np.where(right, labels, (labels + 1) % 4))
    return resample(labels, guesses, COUNTS, RULE, resamples=100, seed=int(rng.integers(2**31)))


def _quantile(share: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(np.clip(share, 0.01, 0.99)))


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("number", [2, 4])
def test_the_interval_errs_seldom_where_the_choice_is_chance(number: int, spread: float) -> None:
    rng = np.random.default_rng(number)
    wrong = 0
    trials = 300
    for _ in range(trials):
        chosen, *others = networks(rng, number + 1, 200, spread)
        wrong += against_random(chosen, others, 0.9)["balanced_accuracy"].excludes_zero
    # 10 % is nominal; the wider one of two intervals errs less often. Percentiles of the rows alone would err in a
    # multiple of that as soon as networks differ.
    assert wrong / trials < 0.10 + 3 * np.sqrt(0.1 * 0.9 / trials)
    if spread == 0.1:
        assert wrong / trials > 0.04, "an interval that never errs would be too wide"


def test_a_large_difference_is_seen() -> None:
    rng = np.random.default_rng(0)
    seen = []
    for apart in (0.3, -0.4):
        chosen, *others = networks(rng, 9, 400, 0.02, apart)
        seen.append(verdict(against_random(chosen, others)["balanced_accuracy"]))
    assert seen == ["better", "worse"]


def test_the_interval_is_student_s_of_a_prediction_or_the_rows() -> None:
    chosen, *others = networks(np.random.default_rng(1), 6, 200, 0.1)
    one = against_random(chosen, others)["balanced_accuracy"]
    values = np.array([other.values["balanced_accuracy"] for other in others])
    assert one.value == pytest.approx(chosen.values["balanced_accuracy"] - values.mean())
    half = student.ppf(0.975, 4) * values.std(ddof=1) * np.sqrt(1.2)
    draws = chosen.draws["balanced_accuracy"] - np.mean([other.draws["balanced_accuracy"] for other in others], axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert one.low == pytest.approx(min(one.value - half, low))
    assert one.high == pytest.approx(max(one.value + half, high))
    assert one.covers == "networks and rows"
    assert one.p >= 2 * student.sf(abs(one.value) / (half / student.ppf(0.975, 4)), 4) - 1e-12


def test_one_random_network_never_tells() -> None:
    chosen, other = networks(np.random.default_rng(2), 2, 400, 0.0, 0.35)
    one = against_random(chosen, [other])["balanced_accuracy"]
    assert one.excludes_zero
    assert one.covers == "rows"
    assert verdict(one) == "cannot tell"


def test_mean_and_share() -> None:
    runs = networks(np.random.default_rng(3), 3, 80, 0.1)
    mean = mean_of_networks(runs)
    assert mean.values["accuracy"] == pytest.approx(np.mean([run.values["accuracy"] for run in runs]))
    assert mean.draws["accuracy"].shape == (100,)
    assert beaten(0.5, [0.4, 0.5, 0.6, 0.1]) == 2
    with pytest.raises(UserError, match="found none"):
        mean_of_networks([])
