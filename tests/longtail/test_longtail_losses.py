"""Golden values: n = [100, 10, 1], four rows, float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from imbnas.errors import UserError
from imbnas.longtail.losses import LOSS_NAMES, build_loss, loss_options

COUNTS = [100, 10, 1]
LOGITS = torch.tensor([[2, 1, 0], [0, 1, 2], [1, 1, 1], [0.5, -0.5, 0.25]], dtype=torch.float64)
TARGET = torch.tensor([0, 1, 2, 2])
COSINES = F.normalize(LOGITS)
PLAIN = 0.9819366962


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("ce", {}, PLAIN),
        ("effective-number", {}, 1.0698359615),
        ("effective-number", {"reduction": "batch-mean"}, 1.5251775119),
        ("effective-number", {"beta": 0.0}, PLAIN),
        ("inverse-frequency", {}, 1.0698443184),
        ("inverse-frequency", {"reduction": "batch-mean"}, 1.5252510215),
        ("focal", {"gamma": 1.0}, 0.6445152839),
        ("focal", {"gamma": 2.0}, 0.4371458489),
        ("focal", {}, 0.4371458489),
        ("focal", {"gamma": 0.0}, PLAIN),
        ("focal", {"gamma": 1.0, "weighting": "effective-number", "reduction": "batch-mean"}, 1.0041159365),
        ("balanced-softmax", {}, 2.8113141620),
        ("logit-adjustment", {}, 2.8113141620),
        ("logit-adjustment", {"tau": 2.0}, 5.5802186124),
        ("logit-adjustment", {"tau": 0.0}, PLAIN),
        ("vs", {"gamma": 0.15, "tau": 1.0}, 3.0100066703),
        ("cdt", {"gamma": 0.15}, 0.9658747154),
        ("cdt", {"gamma": 0.0}, PLAIN),
        ("seesaw", {}, 0.9879648711),
        ("seesaw", {"p": 0.0, "q": 0.0}, PLAIN),
        ("label-aware-smoothing", {"head": 0.4, "tail": 0.1}, 1.0861033628),
        ("label-aware-smoothing", {"head": 0.0, "tail": 0.0}, PLAIN),
    ],
)
def test_golden(name, options, expected):
    assert build_loss(name, COUNTS, **options)(LOGITS, TARGET).item() == pytest.approx(expected, abs=1e-8)


def test_golden_ldam():
    """The reference prints seven digits, cut off."""
    assert build_loss("ldam", COUNTS)(COSINES, TARGET).item() == pytest.approx(15.6362115, abs=1e-7)
    weighted = build_loss("ldam", COUNTS, weighting="effective-number")
    assert weighted(COSINES, TARGET).item() == pytest.approx(20.3210252, abs=1e-7)
    margins = torch.tensor([0.1581139, 0.2811707, 0.5], dtype=torch.float64)
    torch.testing.assert_close(weighted.margins, margins, atol=5.1e-8, rtol=0)


def test_ldam_of_scaled_logits_is_the_same():
    scaled = build_loss("ldam", COUNTS, scale=1.0, max_margin=15.0)(30.0 * COSINES, TARGET)
    torch.testing.assert_close(scaled, build_loss("ldam", COUNTS)(COSINES, TARGET))


def test_golden_buffers():
    divisors = torch.tensor([1.0, 1.4125375, 1.9952623], dtype=torch.float64)
    torch.testing.assert_close(build_loss("vs", COUNTS, gamma=0.15).divisors, divisors, atol=1e-7, rtol=0)
    smoothing = torch.tensor([0.4, 0.1426944, 0.1], dtype=torch.float64)
    torch.testing.assert_close(build_loss("label-aware-smoothing", COUNTS).smoothing, smoothing, atol=1e-7, rtol=0)


def test_seesaw_factors_by_hand():
    """Row 1: label 1 of 10 rows; class 2 is rarer and scores higher, class 0 is more frequent and scores lower."""
    factors = build_loss("seesaw", COUNTS).factors(LOGITS, TARGET)
    expected = torch.tensor([0.0, 0.0, 0.8 * math.log(1 / 10) + 2 * 1.0], dtype=torch.float64)
    torch.testing.assert_close(factors[1], expected)
    confident = torch.tensor([[-20.0, 0.0, -30.0]], dtype=torch.float64)
    floor = build_loss("seesaw", COUNTS).factors(confident, torch.tensor([0]))
    assert floor[0, 1].item() == pytest.approx(0.8 * math.log(1 / 10) - 2 * math.log(0.01))


def test_seql_leaves_rare_negatives_out():
    """All classes below 50 percent are rare: class 0 with 100 of 111 rows is not, classes 1 and 2 are."""
    loss = build_loss("seql", COUNTS, gamma=1.0, threshold=0.5)
    z = LOGITS
    rows = [
        0.0,  # label 0: nothing else is left
        math.log(math.exp(z[1, 0]) + math.exp(z[1, 1])) - z[1, 1].item(),
        math.log(math.exp(z[2, 0]) + math.exp(z[2, 2])) - z[2, 2].item(),
        math.log(math.exp(z[3, 0]) + math.exp(z[3, 2])) - z[3, 2].item(),
    ]
    assert loss(LOGITS, TARGET).item() == pytest.approx(sum(rows) / 4, abs=1e-12)
    assert build_loss("seql", COUNTS, gamma=0.0, threshold=0.5)(LOGITS, TARGET).item() == pytest.approx(PLAIN)
    assert build_loss("seql", COUNTS, gamma=1.0)(LOGITS, TARGET).item() == pytest.approx(PLAIN)


def test_seql_draws_with_probability_gamma_and_from_its_generator():
    target = torch.zeros(20_000, dtype=torch.int64)
    generator = torch.Generator().manual_seed(1)
    loss = build_loss("seql", COUNTS, gamma=0.9, threshold=0.5, generator=generator)
    state = torch.random.get_rng_state()
    left_out = loss.left_out(target)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not left_out[:, 0].any()
    for column in (1, 2):
        assert left_out[:, column].double().mean().item() == pytest.approx(0.9, abs=0.01)
    generator.manual_seed(1)
    assert torch.equal(loss.left_out(target), left_out)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_mean_is_torchs(smoothing):
    loss = build_loss("effective-number", COUNTS, label_smoothing=smoothing)
    expected = F.cross_entropy(LOGITS, TARGET, weight=loss.weight, label_smoothing=smoothing)
    torch.testing.assert_close(loss(LOGITS, TARGET), expected)
    plain = build_loss("ce", COUNTS, label_smoothing=smoothing)
    torch.testing.assert_close(plain(LOGITS, TARGET), F.cross_entropy(LOGITS, TARGET, label_smoothing=smoothing))


def test_label_smoothing_applies_to_the_adjusted_logits():
    offsets = torch.log(torch.tensor(COUNTS, dtype=torch.float64))
    expected = F.cross_entropy(LOGITS + offsets, TARGET, label_smoothing=0.2)
    torch.testing.assert_close(build_loss("balanced-softmax", COUNTS, label_smoothing=0.2)(LOGITS, TARGET), expected)


@pytest.mark.parametrize("name", ["focal", "label-aware-smoothing"])
def test_weighted_rows_by_hand(name):
    plain = build_loss(name, COUNTS).losses(LOGITS, TARGET)
    for reduction in ("weighted-mean", "batch-mean"):
        loss = build_loss(name, COUNTS, weighting="inverse-frequency", reduction=reduction)
        rows = loss.weight[TARGET] * plain
        divisor = loss.weight[TARGET].sum() if reduction == "weighted-mean" else 4
        torch.testing.assert_close(loss(LOGITS, TARGET), rows.sum() / divisor)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_class_without_rows_is_named(name):
    with pytest.raises(UserError, match="class 1 has 0 training rows"):
        build_loss(name, [3, 0, 2])


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_buffers_move_and_are_not_saved(name):
    loss = build_loss(name, COUNTS)
    assert {b.device.type for b in loss.to("meta").buffers()} <= {"meta"}
    assert loss.state_dict() == {}
    assert not list(loss.parameters())


def test_options_of_each_loss():
    assert loss_options("ce") == ()
    assert loss_options("effective-number") == ()
    assert loss_options("ldam") == ("max_margin", "scale", "weighting")
    assert loss_options("balanced-softmax") == ("weighting",)
    assert loss_options("seesaw") == ("p", "q", "floor", "weighting")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hinge", {}, "loss: found 'hinge', expected one of ce, "),
        ("ce", {"gamma": 1.0}, "loss ce: found the option gamma, expected none"),
        ("ce", {"weighting": "none"}, "option weighting"),
        ("vs", {"alpha": 1.0}, "option alpha, expected gamma, tau, weighting"),
        ("ce", {"reduction": "mean"}, "reduction: found 'mean'"),
        ("ce", {"label_smoothing": 1.0}, "label_smoothing: found 1.0"),
        ("focal", {"label_smoothing": 0.1}, "expected 0: Focal has none"),
        ("seql", {"label_smoothing": 0.1}, "expected 0"),
        ("label-aware-smoothing", {"label_smoothing": 0.1}, "expected 0"),
        ("focal", {"gamma": -1.0}, "gamma"),
        ("ldam", {"scale": 0.0}, "scale 0.0"),
        ("vs", {"gamma": float("nan")}, "gamma nan"),
        ("seesaw", {"floor": 0.0}, "floor 0.0"),
        ("seql", {"gamma": 1.5}, "gamma"),
        ("label-aware-smoothing", {"head": 0.1, "tail": 0.2}, "tail 0.2"),
        ("vs", {"weighting": "cb"}, "weighting: found 'cb'"),
        ("effective-number", {"beta": 1.0}, "beta: found 1.0"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        build_loss(name, COUNTS, **options)
    assert "\n" not in str(caught.value)


def test_logits_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 2\), expected \(rows, 3\)"):
        build_loss("ce", COUNTS)(LOGITS[:, :2], TARGET)
