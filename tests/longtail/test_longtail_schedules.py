import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.errors import UserError
from imbnas.longtail.schedules import bbn_alpha, progressive_weight, switch_epoch


def test_deferral_of_the_ldam_recipe():
    assert switch_epoch(200, 0.8) == 160


@pytest.mark.parametrize(
    ("epochs", "start", "expected"),
    [(300, 0.8, 240), (10, 0.7, 7), (10, 0.75, 8), (20, 0.8, 16), (1, 0.8, 1), (1, 0.0, 0), (7, 1.0, 7), (0, 0.5, 0)],
)
def test_switch_epoch_at_other_lengths(epochs, start, expected):
    assert switch_epoch(epochs, start) == expected


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(0, 100))
def test_switch_epoch_is_the_exact_ceiling(epochs, percent):
    assert switch_epoch(epochs, percent / 100) == math.ceil(Fraction(percent, 100) * epochs)


def test_progressive_weight_endpoints_and_course():
    assert progressive_weight(0, 90) == 0.0
    assert progressive_weight(89, 90) == 1.0
    assert progressive_weight(45, 90) == 45 / 89
    np.testing.assert_allclose([progressive_weight(e, 90) for e in range(90)], np.linspace(0, 1, 90))
    assert progressive_weight(0, 1) == 0.0


def test_bbn_alpha():
    """The paper's T = 1, 101 and 200 of 200."""
    assert bbn_alpha(0, 200) == 1.0
    assert bbn_alpha(100, 200) == 0.75
    assert bbn_alpha(199, 200) == pytest.approx(0.009975, abs=1e-12)


@pytest.mark.parametrize("start", [-0.1, 1.1, float("nan")])
def test_start_out_of_range(start):
    with pytest.raises(UserError, match="share in"):
        switch_epoch(10, start)


@pytest.mark.parametrize("function", [progressive_weight, bbn_alpha])
@pytest.mark.parametrize("epoch", [-1, 10])
def test_epoch_out_of_range(function, epoch):
    with pytest.raises(UserError, match=f"found {epoch} of 10, expected 0 to 9"):
        function(epoch, 10)
