"""Mixup and Remix: the law of the share, whose label it is, and the loss of two labels."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.longtail.crossentropy import CrossEntropy
from imbnas.longtail.losses import LOSS_NAMES, build_loss
from imbnas.longtail.mixing import Mixed, Mixer

torch.set_num_threads(1)
COUNTS = [100, 10, 1]
LOGITS = torch.tensor([[2, 1, 0], [0, 1, 2], [1, 1, 1], [0.5, -0.5, 0.25]], dtype=torch.float64)
FIRST, SECOND = torch.tensor([0, 1, 2, 2]), torch.tensor([2, 1, 0, 1])
SHARE = torch.tensor([0.3, 0.5, 1.0, 0.0], dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shares(mixer: Mixer, draws: int) -> np.ndarray:
    inputs, labels, generator = torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]), seeded()
    return np.array([mixer(inputs, labels, generator)[1].share[0].item() for _ in range(draws)])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_has_the_beta_distribution(alpha: float) -> None:
    found = shares(Mixer("mixup", [1, 1], alpha), 3000)
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 0.01
    variance = 1 / (4 * (2 * alpha + 1))
    assert found.mean() == pytest.approx(0.5, abs=5 * math.sqrt(variance / 3000))
    assert found.var() == pytest.approx(variance, rel=0.08)
    # A wrong alpha would be seen.
    assert stats.kstest(found, stats.beta(1.25 * alpha, 1.25 * alpha).cdf).pvalue < 0.01


def test_images_and_labels_are_mixed_alike() -> None:
    """Each image is the unit vector of its row, so that the mixture shows its two rows and their parts."""
    rows = torch.eye(9).view(9, 9, 1, 1)
    labels = torch.arange(9)
    mixed, target = Mixer("mixup", [5] * 9)(rows, labels, seeded())
    assert torch.equal(target.first, labels)
    assert sorted(target.second.tolist()) == list(range(9))
    assert not torch.equal(target.second, labels)
    part = target.share[0].item()
    assert 0 < part < 1
    assert torch.equal(target.share, torch.full((9,), part, dtype=torch.float64))
    expected = torch.zeros(9, 9)
    expected[labels, labels] += part
    expected[labels, target.second] += 1 - part
    torch.testing.assert_close(mixed.flatten(1), expected)
    assert mixed.dtype == torch.float32


def test_the_result_hangs_on_the_generator_alone() -> None:
    inputs, labels = torch.rand(12, 3, 4, 4), torch.arange(12) % 3
    mixer = Mixer("remix", COUNTS)
    state, legacy = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    generator = seeded(5)
    first, target = mixer(inputs, labels, generator)
    again, same = mixer(inputs, labels, seeded(5))
    assert torch.equal(first, again)
    assert all(torch.equal(a, b) for a, b in zip(target, same, strict=True))
    other, _ = mixer(inputs, labels, generator)
    assert not torch.equal(first, other), "the generator moves on"
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)  # type: ignore[index]


def test_everything_stays_on_the_inputs_device() -> None:
    """`meta` is a device that every machine has; an operation across devices fails."""
    inputs, labels = torch.rand(6, 3, 4, 4, device="meta"), torch.zeros(6, dtype=torch.int64, device="meta")
    mixed, target = Mixer("remix", COUNTS)(inputs, labels, seeded())
    assert {tensor.device.type for tensor in (mixed, *target)} == {"meta"}
    assert build_loss("ldam", COUNTS).to("meta")(torch.rand(6, 3, device="meta"), target).device.type == "meta"


@pytest.mark.parametrize(
    ("first", "second", "part", "share"),
    [
        # Counts are 300, 100, 99, 30. The frequent class is first: it loses the label where its part is below tau.
        (0, 3, 0.4, 0.0),
        (0, 3, 0.5, 0.5),
        (0, 3, 0.6, 0.6),
        (0, 3, 0.0, 0.0),
        # The ratio is kappa exactly, above it, and below it.
        (0, 1, 0.4, 0.0),
        (0, 2, 0.4, 0.0),
        (1, 3, 0.4, 0.0),
        (2, 3, 0.4, 0.0),
        (1, 2, 0.4, 0.4),
        # The rarer class is first: it takes the label where the other's part is below tau.
        (3, 0, 0.6, 1.0),
        (3, 0, 0.5, 0.5),
        (3, 0, 0.4, 0.4),
        (1, 0, 0.6, 1.0),
        (2, 1, 0.9, 0.9),
        (3, 3, 0.1, 0.1),
    ],
)
def test_remix_gives_the_label_to_the_rarer_class(first: int, second: int, part: float, share: float) -> None:
    mixer = Mixer("remix", [300, 100, 99, 30], kappa=3.0, tau=0.5)
    found = mixer.shares(torch.tensor([first]), torch.tensor([second]), part)
    assert found.tolist() == [share]
    # Mixing the other way round is the same thing.
    other = mixer.shares(torch.tensor([second]), torch.tensor([first]), 1 - part)
    assert other.item() == pytest.approx(1 - share, abs=1e-12)


def test_remix_at_its_limits() -> None:
    pairs = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    never = Mixer("remix", [50, 5], tau=0.0)
    assert never.shares(*pairs, 0.3).tolist() == [0.3] * 4
    always = Mixer("remix", [50, 5], tau=1.0)
    assert always.shares(*pairs, 0.3).tolist() == [0.3, 0.0, 1.0, 0.3]
    # With kappa 1 and equal counts both cases of the paper's definition hold: the first acts.
    assert Mixer("remix", [5, 5], kappa=1.0, tau=1.0).shares(*pairs, 0.3).tolist() == [0.0] * 4
    assert Mixer("remix", [50, 49], kappa=1.0).shares(*pairs, 0.3).tolist() == [0.0, 0.0, 0.3, 0.0]


def test_remix_raises_the_rare_classes_part_of_the_labels() -> None:
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([90, 9, 1]))
    inputs = torch.zeros(100, 1, 1, 1)

    def label_mass(name: str) -> Tensor:
        mixer, generator, mass = Mixer(name, [90, 9, 1]), seeded(), torch.zeros(3, dtype=torch.float64)
        for _ in range(200):
            target = mixer(inputs, labels, generator)[1]
            mass.index_add_(0, target.first, target.share).index_add_(0, target.second, 1 - target.share)
        return mass / 200

    plain, favoured = label_mass("mixup"), label_mass("remix")
    torch.testing.assert_close(plain, torch.tensor([90.0, 9, 1], dtype=torch.float64), atol=0.3, rtol=0)
    # The rarer of a pair gains the other's part where that is below 1/2: 1/8 on average, and each row is in two pairs.
    assert favoured[2] / plain[2] == pytest.approx(1.0 + 2 * 0.99 / 8, abs=0.08)
    assert favoured[1] > plain[1]
    assert favoured[0] < plain[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cutmix"}, "mixing: found 'cutmix', expected one of mixup, remix"),
        ({"alpha": 0.0}, "alpha: found 0.0, expected a number above 0"),
        ({"alpha": math.inf}, "alpha: found inf"),
        ({"alpha": math.nan}, "alpha: found nan"),
        ({"kappa": 0.5}, "kappa: found 0.5, expected a number of at least 1"),
        ({"kappa": math.nan}, "kappa: found nan"),
        ({"tau": -0.1}, r"tau: found -0.1, expected a number in \[0, 1\]"),
        ({"tau": 1.1}, "tau: found 1.1"),
        ({"counts": [3, 0]}, "class 1 has 0 training rows"),
    ],
)
def test_wrong_values_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Mixer(**{"name": "remix", "counts": [3, 2]} | options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def rows_of(loss: CrossEntropy, target: Tensor) -> Tensor:
    """Return the unweighted loss of each row."""
    return torch.stack([loss(LOGITS[k : k + 1], target[k : k + 1]) for k in range(len(target))])


@pytest.mark.parametrize("name", ["ce", "focal", "ldam", "vs", "seesaw", "label-aware-smoothing"])
@pytest.mark.parametrize("reduction", ["weighted-mean", "batch-mean"])
def test_the_mixed_loss_by_hand(name: str, reduction: str) -> None:
    options = {} if name == "ce" else {"weighting": "inverse-frequency"}
    plain = build_loss(name, COUNTS)
    loss = build_loss("inverse-frequency" if name == "ce" else name, COUNTS, reduction=reduction, **options)
    weight = torch.tensor([1 / 100, 1 / 10, 1], dtype=torch.float64)
    weight *= 3 / weight.sum()
    first, second = weight[FIRST] * rows_of(plain, FIRST), weight[SECOND] * rows_of(plain, SECOND)
    total = (SHARE * first + (1 - SHARE) * second).sum()
    weights = (SHARE * weight[FIRST] + (1 - SHARE) * weight[SECOND]).sum()
    divisor = weights if reduction == "weighted-mean" else 4
    torch.testing.assert_close(loss(LOGITS, Mixed(FIRST, SECOND, SHARE)), total / divisor)


def test_the_mixed_cross_entropy_is_that_of_mixed_probabilities() -> None:
    probabilities = torch.zeros(4, 3, dtype=torch.float64)
    probabilities[torch.arange(4), FIRST] += SHARE
    probabilities[torch.arange(4), SECOND] += 1 - SHARE
    expected = torch.nn.functional.cross_entropy(LOGITS, probabilities, label_smoothing=0.1)
    loss = build_loss("ce", COUNTS, label_smoothing=0.1)
    torch.testing.assert_close(loss(LOGITS, Mixed(FIRST, SECOND, SHARE)), expected)


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_loss_takes_mixed_labels(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    # Logits far apart, as a trained network's.
    logits = (20 * torch.randn(64, 3, dtype=torch.float64)).to(dtype).requires_grad_()
    labels = torch.arange(64) % 3
    target = Mixer("remix", COUNTS)(torch.zeros(64, 1, 1, 1), labels, seeded(1))[1]
    options: dict[str, float] = {"threshold": 0.5} if name == "seql" else {}
    loss: nn.Module = build_loss(name, COUNTS, **options)
    value = loss(logits, target)
    assert value.ndim == 0
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(value)
    value.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad != 0).any()


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("reduction", ["weighted-mean", "batch-mean"])
def test_a_share_of_1_is_the_plain_loss_bit_for_bit(name: str, reduction: str) -> None:
    logits, labels = torch.randn(64, 3, generator=seeded()), torch.arange(64) % 3
    other, ones = labels.roll(1), torch.ones(64, dtype=torch.float64)
    loss = build_loss(name, COUNTS, reduction=reduction, **({"threshold": 0.5} if name == "seql" else {}))

    def value(target: Tensor | Mixed) -> Tensor:
        torch.manual_seed(3)  # of SEQL's draws
        result: Tensor = loss(logits, target)
        return result

    assert torch.equal(value(Mixed(labels, other, ones)), value(labels))
    if name != "seql":  # the second label's draws are the second ones
        assert torch.equal(value(Mixed(other, labels, 1 - ones)), value(labels))
    assert not torch.equal(value(Mixed(labels, other, 0.5 * ones)), value(labels))


def test_no_loss_goes_around_mixing() -> None:
    """A subclass that had a `forward` of its own would have to know `Mixed` too."""
    for name in LOSS_NAMES:
        assert inspect.getattr_static(type(build_loss(name, COUNTS)), "forward") is CrossEntropy.forward
