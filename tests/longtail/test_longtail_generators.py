"""Distribution calibration and mixup of features, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imbnas.errors import UserError
from imbnas.longtail.generators import Calibrated, Standard, mixed_features

# Two base classes of three and two rows, and a rare one of a single row.
FEATURES = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0], [10.0, 0.0], [10.0, 4.0], [4.0, 1.0]])
LABELS = np.array([0, 0, 0, 2, 2, 1])
COUNTS = [3, 1, 2]


def test_calibration_equals_hand_computed_values() -> None:
    found = Calibrated(FEATURES, LABELS, COUNTS, base=0.6, neighbours=2, spread=0.5)
    assert found.base.tolist() == [0, 2]
    np.testing.assert_allclose(found.means, [[1.0, 1.0], [10.0, 2.0]])
    # Centred: (-1, -1), (1, -1), (0, 2), with sums of squares 2 and 6 and of products 0; and (0, -2), (0, 2).
    np.testing.assert_allclose(found.covariances, [[[1.0, 0.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 8.0]]], atol=1e-12)
    mean, covariance = found.distribution(FEATURES[5])
    # (4 + 1 + 10) / 3, (1 + 1 + 2) / 3; the mean of both covariances, and 0.5 on every entry.
    np.testing.assert_allclose(mean, [5.0, 4.0 / 3.0])
    np.testing.assert_allclose(covariance, [[1.0, 0.5], [0.5, 6.0]], atol=1e-12)


def test_the_nearest_base_class_alone_may_lend() -> None:
    found = Calibrated(FEATURES, LABELS, COUNTS, base=0.6, neighbours=1, spread=0.0)
    # (4, 1) is 3 from (1, 1) and more than 6 from (10, 2).
    assert found.base[found.nearest(FEATURES[5])].tolist() == [0]
    mean, covariance = found.distribution(FEATURES[5])
    np.testing.assert_allclose(mean, [2.5, 1.0])
    np.testing.assert_allclose(covariance, found.covariances[0])


def test_draws_have_the_calibrated_mean_and_covariance() -> None:
    found = Calibrated(FEATURES, LABELS, COUNTS, base=0.6, neighbours=2, spread=0.5)
    made = found.generate([4000, 4000, 3], np.random.default_rng(0))
    assert torch.bincount(made.labels.first).tolist() == [4000, 4000, 3]
    assert (made.labels.share == 1.0).all()
    for label, (mean, covariance) in enumerate(
        [(found.means[0], found.covariances[0]), found.distribution(FEATURES[5])]
    ):
        drawn = made.features[made.labels.first == label].double().numpy()
        np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.15)
        np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.4)
    assert (made.features[8000:, 0] == 10.0).all(), "no spread where the class has none: base classes are as they are"


def test_rows_of_a_rare_class_take_turns() -> None:
    features = np.concatenate([FEATURES, [[40.0, 1.0]]])
    found = Calibrated(features, np.append(LABELS, 1), [3, 2, 2], base=0.3, neighbours=1, spread=0.0)
    drawn = found.draw(1, 4, np.random.default_rng(0))
    # Means at 2.5 and 20.5, deviation 1.
    assert sorted((drawn[:, 0] > 10.0).tolist()) == [False, False, True, True]


def test_mixtures_lie_between_their_rows_and_carry_both_labels() -> None:
    features, labels = torch.from_numpy(FEATURES), torch.from_numpy(LABELS)
    made = mixed_features(features, labels, [5, 7, 0], 1.0, np.random.default_rng(2))
    assert made.labels.first.tolist() == [0] * 5 + [1] * 7
    assert ((made.labels.share >= 0.5) & (made.labels.share <= 1.0)).all()
    share = made.labels.share[:, None]
    # Class 1 has one row, so that the partner is known from the mixture.
    partner = (made.features[5:] - share[5:] * features[5]) / (1.0 - share[5:])
    for row, label in zip(partner, made.labels.second[5:], strict=True):
        near = (features - row).norm(dim=1)
        assert near.min() < 1e-9
        assert labels[near.argmin()] == label
    assert len(set(made.labels.second.tolist())) > 1


def test_nothing_is_generated_where_nothing_is_wanted() -> None:
    features, labels = torch.from_numpy(FEATURES), torch.from_numpy(LABELS)
    for made in (
        mixed_features(features, labels, [0, 0, 0], 1.0, np.random.default_rng(0)),
        Calibrated(FEATURES, LABELS, COUNTS).generate([0, 0, 0], np.random.default_rng(0)),
    ):
        assert made.features.shape == (0, 2)
        assert [len(part) for part in made.labels] == [0, 0, 0]


def test_standardised_features_come_back() -> None:
    features = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
    standard = Standard.of(features)
    assert standard.apply(features).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert torch.equal(standard.undo(standard.apply(features)), features)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"base": 0.0}, "base 0.0"), ({"neighbours": 0}, "neighbours 0"), ({"spread": -1.0}, "-1.0")],
)
def test_values_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Calibrated(FEATURES, LABELS, COUNTS, **options)
    with pytest.raises(UserError, match="alpha"):
        mixed_features(torch.from_numpy(FEATURES), torch.from_numpy(LABELS), [1, 1, 1], 0.0, np.random.default_rng(0))
