import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.errors import UserError
from imbnas.longtail.weights import (
    check_counts,
    class_weights,
    effective_number_weights,
    inverse_frequency_weights,
)

CIFAR10_LT = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
CIFAR100_LT = [int(500 * 0.01 ** (k / 99)) for k in range(100)]
COUNTS = st.lists(st.integers(1, 5000), min_size=2, max_size=20)


def test_effective_number_of_cifar10_lt():
    low = effective_number_weights(CIFAR10_LT, 0.999)
    expected = [0.181187, 0.189414, 0.215742, 0.272859, 0.378479, 0.560581, 0.868804, 1.386165, 2.25845, 3.688319]
    np.testing.assert_allclose(low, expected, atol=5.1e-7, rtol=0)
    assert low[-1] / low[0] == pytest.approx(20.36, abs=0.005)
    high = effective_number_weights(CIFAR10_LT, 0.9999)
    expected = [0.050611, 0.0769, 0.121134, 0.195037, 0.318805, 0.52459, 0.868349, 1.442627, 2.409223, 3.992724]
    np.testing.assert_allclose(high, expected, atol=5.1e-7, rtol=0)
    assert high[-1] / high[0] == pytest.approx(78.89, abs=0.005)


def test_effective_number_of_cifar100_lt():
    weights = effective_number_weights(CIFAR100_LT, 0.9999)
    assert weights[0] == pytest.approx(0.0448757, abs=5.1e-8)
    assert weights[-1] == pytest.approx(4.3783126, abs=5.1e-8)
    assert weights[-1] / weights[0] == pytest.approx(97.57, abs=0.005)


def test_inverse_frequency_of_cifar10_lt():
    weights = inverse_frequency_weights(CIFAR10_LT)
    assert weights[0] == pytest.approx(0.040236, abs=5.1e-7)
    assert weights[-1] == pytest.approx(4.02365, abs=5.1e-6)
    assert weights[-1] / weights[0] == pytest.approx(100.0)


def test_toy_weights():
    np.testing.assert_allclose(effective_number_weights([100, 10, 1]), [0.0271587, 0.2703689, 2.7024724], atol=5.1e-8)
    np.testing.assert_allclose(inverse_frequency_weights([100, 10, 1]), [0.0270270, 0.2702703, 2.7027027], atol=5.1e-8)


def test_square_root_weights():
    weights = inverse_frequency_weights([100, 25, 4], power=0.5)
    np.testing.assert_allclose(weights / weights[0], [1.0, 2.0, 5.0])


@settings(deadline=None)
@given(COUNTS, st.floats(0.0, 0.99999))
def test_weights_have_mean_one_and_never_favour_frequent_classes(counts, beta):
    for weights in (effective_number_weights(counts, beta), inverse_frequency_weights(counts)):
        assert weights.sum() == pytest.approx(len(counts))
        ordered = weights[np.argsort(counts)]
        assert (np.diff(ordered) <= 1e-12).all()


@settings(deadline=None)
@given(COUNTS)
def test_limits_of_beta(counts):
    np.testing.assert_array_equal(effective_number_weights(counts, 0.0), np.ones(len(counts)))
    limit = effective_number_weights(counts, 1.0 - 1e-12)
    np.testing.assert_allclose(limit, inverse_frequency_weights(counts), rtol=1e-6)


def test_saturated_counts_weigh_alike():
    np.testing.assert_allclose(effective_number_weights([900_000, 2_000_000, 10_000_000], 0.9999), np.ones(3))


@settings(deadline=None)
@given(COUNTS, st.integers(2, 9))
def test_scaling_all_counts_changes_effective_numbers_only(counts, factor):
    scaled = [factor * n for n in counts]
    np.testing.assert_allclose(inverse_frequency_weights(scaled), inverse_frequency_weights(counts))
    if len(set(counts)) > 1:
        before, after = effective_number_weights(counts, 0.9), effective_number_weights(scaled, 0.9)
        assert after.max() - after.min() <= before.max() - before.min()


def test_class_without_rows_is_named():
    for function in (check_counts, inverse_frequency_weights, effective_number_weights):
        with pytest.raises(UserError, match="class 2 has 0 training rows"):
            function([5, 3, 0, 0])
    with pytest.raises(UserError, match="class 1 has nan"):
        check_counts([5.0, float("nan")])
    with pytest.raises(UserError, match="one number for each class"):
        check_counts([])


def test_class_weights_by_name():
    assert class_weights("none", [5, 2]) is None
    np.testing.assert_array_equal(class_weights("inverse-frequency", [5, 2]), inverse_frequency_weights([5, 2]))
    np.testing.assert_array_equal(class_weights("effective-number", [5, 2], 0.5), effective_number_weights([5, 2], 0.5))
    with pytest.raises(UserError, match="'inverse', expected one of none"):
        class_weights("inverse", [5, 2])


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_beta_out_of_range(beta):
    with pytest.raises(UserError, match="beta"):
        effective_number_weights([5, 2], beta)


def test_numpy_modules_do_not_import_torch():
    names = ["weights", "schedules", "samplers", "metrics", "calibration", "shots"]
    imports = "; ".join(f"import imbnas.longtail.{name}" for name in names)
    check = f"{imports}; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
