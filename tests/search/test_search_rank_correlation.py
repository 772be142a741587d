"""Kendall's tau-b against scipy's, which counts pairs in another way, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from imbnas.search.rank_correlation import kendall


@settings(deadline=None, max_examples=200)
@given(pairs=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=40))
def test_it_is_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = zip(*pairs, strict=True)
    expected = kendalltau(x, y).statistic
    found = kendall(x, y)
    if math.isnan(expected):
        assert found is None
    else:
        assert found == pytest.approx(expected, abs=1e-12)


def test_by_hand() -> None:
    # Pairs: 5 agree, 1 disagrees.
    assert kendall([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx((5 - 1) / 6)
    # One pair ties in the first alone: 2 / sqrt(2 * 3).
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(6))


def test_nothing_to_rank() -> None:
    assert kendall([], []) is kendall([1.0], [2.0]) is kendall([1, 1], [0, 5]) is None


def test_many_values_take_no_square_of_them() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(50_000)
    y = x + rng.random(50_000)
    assert kendall(x, y) == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)
