"""Student's t over runs and test rows, against scipy's tests, by hand, and by simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from imbnas.errors import UserError
from imbnas.longtail.student import difference_of_runs, holm, mean_of_runs

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
RUNS = np.array([0.013, 0.002, 0.021, -0.004])
OTHERS = np.array([0.004, 0.011, -0.02])


def test_without_row_noise_it_is_the_t_test():
    made, found = mean_of_runs(RUNS), stats.ttest_1samp(RUNS, 0.0)
    assert float(made.p()) == pytest.approx(found.pvalue)
    assert made.ends(0.95) == pytest.approx(found.confidence_interval(0.95))
    welch = stats.ttest_ind(RUNS, OTHERS, equal_var=False)
    apart = difference_of_runs(RUNS, OTHERS)
    assert (float(apart.p()), float(apart.freedom)) == pytest.approx((welch.pvalue, welch.df))
    assert apart.ends(0.9) == pytest.approx(welch.confidence_interval(0.9))


def test_row_noise_is_added_and_has_no_end_of_degrees_of_freedom():
    own, rows = RUNS.var(ddof=1) / 4, 3e-5
    made = mean_of_runs(RUNS, rows)
    freedom = (own + rows) ** 2 / (own**2 / 3)
    half = stats.t.ppf(0.975, freedom) * (own + rows) ** 0.5
    assert (float(made.error), float(made.freedom)) == pytest.approx(((own + rows) ** 0.5, freedom))
    assert made.ends(0.95) == pytest.approx((RUNS.mean() - half, RUNS.mean() + half))
    alone = mean_of_runs([0.3, 0.3, 0.3], 1e-4).ends(0.95)
    assert alone == pytest.approx((0.3 - 0.01959964, 0.3 + 0.01959964)), "of the rows alone it is the normal one"


def test_without_any_noise_a_difference_is_certain():
    assert mean_of_runs([0.0, 0.0]).ends(0.95) == (0.0, 0.0)
    assert float(mean_of_runs([0.0, 0.0]).p()) == 1.0
    assert float(mean_of_runs([0.1, 0.1, 0.1]).p()) == 0.0
    assert [float(mean_of_runs([0.1, 0.1, 0.1]).p_equivalent(margin)) for margin in (0.05, 0.2)] == [1.0, 0.0]


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    made = mean_of_runs(RUNS)
    low = stats.ttest_1samp(RUNS, -0.02, alternative="greater").pvalue
    high = stats.ttest_1samp(RUNS, 0.02, alternative="less").pvalue
    assert high > low
    assert float(made.p_equivalent(0.02)) == pytest.approx(high)
    assert (float(made.p_equivalent(0.02)) < 0.05) == (made.ends(0.9)[0] > -0.02 and made.ends(0.9)[1] < 0.02)


@pytest.mark.parametrize(("a", "b"), [(1, 3), (3, 1)])
def test_a_single_run_says_nothing_of_others(a, b):
    with pytest.raises(UserError, match=r"found 1 run\(s\), expected at least two"):
        difference_of_runs(np.zeros(a), np.zeros(b))


def test_holm_by_hand():
    # 4 x .01, 3 x .015, 2 x .03 and 1 x .02, none below an earlier one.
    assert holm([0.03, 0.01, 0.9, 0.015]) == pytest.approx([0.06, 0.04, 0.9, 0.045])
    assert holm([0.03, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([0.7, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_is_between_the_value_and_bonferroni(values):
    found = holm(values)
    for value, corrected in zip(values, found, strict=True):
        assert value <= corrected <= min(1.0, len(values) * value) + 1e-12
    assert [found[k] for k in np.argsort(values, kind="stable")] == sorted(found)


class TestCoverage:
    """Two methods without a true difference: of 95 % intervals 3 to 8 % may exclude 0."""

    @pytest.mark.parametrize("noise", [0.0, 0.3, 0.6])
    @pytest.mark.parametrize("runs", [3, 5, 10])
    def test_over_runs_and_row_noise(self, monkeypatch, runs, noise):
        monkeypatch.syspath_prepend(EXPERIMENTS)
        import interval_coverage as coverage

        paired, unpaired, resampled = coverage.row(runs, noise, 20000)
        assert 0.03 <= paired <= 0.08
        assert 0.03 <= unpaired <= 0.08
        if (runs, noise) in ((3, 0.0), (3, 0.3), (5, 0.0)):
            assert resampled > 0.1, "resampling a few runs is what this is instead of"

    @pytest.mark.parametrize("runs", [3, 10])
    def test_over_test_rows_that_are_drawn(self, monkeypatch, runs):
        monkeypatch.syspath_prepend(EXPERIMENTS)
        import interval_coverage as coverage

        a, b, variance = coverage.answers(runs, 300, 1500)
        assert 0.0001 < variance.mean() < 0.001
        for made in (mean_of_runs(a - b, variance), difference_of_runs(a, b, variance)):
            assert 0.015 <= coverage.errs(made) <= 0.08
        # Rows are not a small part here: with the variance over runs alone too many intervals exclude 0.
        assert coverage.errs(mean_of_runs(a - b)) > coverage.errs(mean_of_runs(a - b, variance)) + 0.03
