import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.errors import UserError
from imbnas.longtail.calibration import expected_calibration_error, reliability_table

CONFIDENCE = [1, 1, 0.95, 0.2, 0.2, 1 / 3]
CORRECT = [1, 0, 1, 0, 1, 1]


def test_golden():
    upper = expected_calibration_error(CONFIDENCE, CORRECT, 15, "upper")
    assert upper == expected_calibration_error(CONFIDENCE, CORRECT)
    assert upper == pytest.approx(0.36944, abs=5e-6)
    assert expected_calibration_error(CONFIDENCE, CORRECT, 15, "lower") == pytest.approx(0.38611, abs=5e-6)


def test_edges_of_the_upper_rule():
    table = reliability_table([0.0, 0.25, 0.5, 1.0], [0, 1, 1, 1], 4, "upper")
    np.testing.assert_array_equal(table["rows"], [2, 1, 0, 1])
    np.testing.assert_array_equal(table["lower"], [0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(table["upper"], [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_array_equal(table["confidence"], [0.125, 0.5, np.nan, 1.0])
    np.testing.assert_array_equal(table["accuracy"], [0.5, 1.0, np.nan, 1.0])


def test_edges_of_the_lower_rule():
    table = reliability_table([0.0, 0.25, 0.5, 1.0], [0, 1, 1, 1], 4, "lower")
    np.testing.assert_array_equal(table["rows"], [1, 1, 1, 0, 1])
    np.testing.assert_array_equal(table["lower"], [0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_array_equal(table["upper"], [0.25, 0.5, 0.75, 1.0, 1.0])


@pytest.mark.parametrize("bins", [3, 7, 10, 15, 49])
def test_every_edge_is_met_exactly(bins):
    edges = np.array([i / bins for i in range(1, bins)])
    ones = np.ones(bins - 1)
    np.testing.assert_array_equal(reliability_table(edges, ones, bins, "upper")["rows"], [1] * (bins - 1) + [0])
    np.testing.assert_array_equal(reliability_table(edges, ones, bins, "lower")["rows"], [0] + [1] * (bins - 1) + [0])


ROWS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@settings(deadline=None)
@given(ROWS, st.integers(1, 20), st.sampled_from(["upper", "lower"]))
def test_against_a_loop(rows, bins, rule):
    total = 0.0
    for i in range(bins + 1):
        low, high = i / bins, (i + 1) / bins
        if rule == "upper":
            inside = [r for r in rows if low < r[0] <= high or (i == 0 and r[0] == 0)]
        else:
            inside = [r for r in rows if low <= r[0] < high]
        total += abs(sum(r[0] for r in inside) - sum(r[1] for r in inside))
    confidence, correct = zip(*rows, strict=True)
    value = expected_calibration_error(confidence, correct, bins, rule)
    assert value == pytest.approx(total / len(rows), abs=1e-12)
    assert reliability_table(confidence, correct, bins, rule)["rows"].sum() == len(rows)


def test_rules_agree_off_the_edges():
    rng = np.random.default_rng(0)
    confidence = rng.random(5000)
    correct = rng.random(5000) < confidence
    upper = expected_calibration_error(confidence, correct, 15, "upper")
    assert upper == expected_calibration_error(confidence, correct, 15, "lower")
    assert upper < 0.03


def test_certain_and_right_is_calibrated():
    for rule in ("upper", "lower"):
        assert expected_calibration_error([1.0, 1.0], [True, True], 15, rule) == 0.0
        assert expected_calibration_error([0.0, 0.0], [False, False], 15, rule) == 0.0
        assert expected_calibration_error([1.0, 1.0], [False, False], 15, rule) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 1.5], [1, 1], 15), "row 1 has 1.5"),
        (([float("nan")], [1], 15), "row 0 has nan"),
        (([], [], 15), "not empty"),
        (([0.5], [1, 0], 15), "shapes"),
        (([0.5], [1], 0), "bins: found 0"),
        (([0.5], [1], 15, "middle"), "bin rule: found 'middle'"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(UserError, match=message):
        expected_calibration_error(*arguments)
