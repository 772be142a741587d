"""BBN's cumulative loss, and the rows that its branches see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imbnas.data.order import InstanceSampler
from imbnas.errors import UserError
from imbnas.longtail.bilateral_sampler import BilateralSampler
from imbnas.longtail.cumulative import CumulativeLoss
from imbnas.longtail.losses import build_loss
from imbnas.longtail.samplers import ClassSampler, power_probabilities
from imbnas.longtail.schedules import bbn_alpha
from imbnas.training.inputs import batches_of

torch.set_num_threads(1)


class Fixed:
    """Epochs of given length whose rows say which side and epoch they are of."""

    def __init__(self, rows: int, first: int) -> None:
        self._rows, self._first = rows, first

    def epoch(self, epoch: int) -> np.ndarray:
        return np.arange(self._rows) + self._first + 1000 * epoch


@settings(deadline=None)
@given(rows=st.integers(2, 60), batch_size=st.integers(2, 25), epoch=st.integers(0, 3))
def test_every_batch_holds_a_conventional_and_a_rebalancing_half(rows, batch_size, epoch):
    sampler = BilateralSampler(Fixed(rows, 0), Fixed(rows, 10_000), batch_size)
    positions = sampler.epoch(epoch)
    batches = batches_of(positions, 2 * batch_size)
    assert sum(map(len, batches)) == len(positions) == len(sampler)
    for batch in batches:
        half = len(batch) // 2
        assert half >= 2
        assert len(batch) == 2 * half
        assert (batch[:half] < 10_000).all()
        assert (batch[half:] - batch[:half] == 10_000).all()
    conventional = positions[positions < 10_000]
    left_out = rows % batch_size == 1 and rows > batch_size
    assert conventional.tolist() == list(range(1000 * epoch, 1000 * epoch + rows - left_out))


def test_the_papers_samplers_see_the_two_priors():
    labels = np.repeat([0, 1, 2], [1000, 100, 10])
    reversed_ = ClassSampler(labels, 2, power_probabilities(np.bincount(labels), -1.0))
    sampler = BilateralSampler(InstanceSampler(labels, 1), reversed_, 111)
    sides = np.concatenate([sampler.epoch(epoch).reshape(-1, 2, 111) for epoch in range(5)])
    conventional, rebalancing = (labels[sides[:, side].ravel()] for side in (0, 1))
    assert np.bincount(conventional).tolist() == [5000, 500, 50]
    shares = np.bincount(rebalancing, minlength=3) / 5550
    np.testing.assert_allclose(shares, [0.009009, 0.09009, 0.900901], atol=0.015)
    assert np.array_equal(sampler.epoch(3), sampler.epoch(3))
    assert not np.array_equal(sampler.epoch(3), sampler.epoch(4))


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(UserError, match="found epochs of 8 and 9 rows, expected equal ones"):
        BilateralSampler(Fixed(8, 0), Fixed(9, 0), 4)
    with pytest.raises(UserError, match="batch_size: found 1, expected at least 2"):
        BilateralSampler(Fixed(8, 0), Fixed(8, 0), 1)


@settings(deadline=None)
@given(alpha=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
def test_the_loss_is_cross_entropy_against_mixed_targets(alpha, seed):
    torch.manual_seed(seed)
    logits = torch.randn(6, 4, dtype=torch.float64)
    targets = torch.randint(0, 4, (12,))
    found = CumulativeLoss(nn.CrossEntropyLoss(), alpha)(logits, targets)
    conventional, rebalancing = (F.one_hot(half, 4).double() for half in targets.split(6))
    mixed = alpha * conventional + (1 - alpha) * rebalancing
    torch.testing.assert_close(found, F.cross_entropy(logits, mixed))


@pytest.mark.parametrize(("alpha", "half"), [(1.0, 0), (0.0, 1)])
def test_at_the_ends_one_half_of_the_labels_counts(alpha, half):
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 4), torch.randint(0, 4, (12,))
    loss = build_loss("ldam", [50, 20, 9, 3])
    assert torch.equal(CumulativeLoss(loss, alpha)(logits, targets), loss(logits, targets.split(6)[half]))


def test_the_first_epoch_is_conventional_alone():
    logits, targets = torch.randn(6, 4), torch.randint(0, 4, (12,))
    loss = CumulativeLoss(nn.CrossEntropyLoss(), bbn_alpha(0, 200))
    assert torch.equal(loss(logits, targets), F.cross_entropy(logits, targets[:6]))


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_that_is_no_share_is_refused(alpha):
    with pytest.raises(UserError, match=r"^alpha: found .*, expected a number from 0 to 1"):
        CumulativeLoss(nn.CrossEntropyLoss(), alpha)


def test_labels_that_are_not_two_halves_are_refused():
    with pytest.raises(RuntimeError):
        CumulativeLoss(nn.CrossEntropyLoss(), 0.5)(torch.randn(6, 4), torch.zeros(11, dtype=torch.int64))
