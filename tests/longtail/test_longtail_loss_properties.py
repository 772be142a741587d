import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.longtail.crossentropy import CrossEntropy
from imbnas.longtail.losses import LOSS_NAMES, build_loss

torch.set_num_threads(1)


@st.composite
def problems(draw):
    counts = draw(st.lists(st.integers(1, 3000), min_size=2, max_size=8))
    rows = draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    logits = 3 * torch.randn(rows, len(counts), generator=generator, dtype=torch.float64)
    target = torch.randint(len(counts), (rows,), generator=generator)
    return counts, logits, target


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@settings(deadline=None)
@given(problems(), st.floats(0, 1), st.floats(0, 2))
def test_special_cases_coincide(problem, gamma, tau):
    counts, z, y = problem
    plain = F.cross_entropy(z, y)
    close(build_loss("balanced-softmax", counts)(z, y), build_loss("logit-adjustment", counts, tau=1.0)(z, y))
    close(build_loss("vs", counts, gamma=0.0, tau=tau)(z, y), build_loss("logit-adjustment", counts, tau=tau)(z, y))
    close(build_loss("vs", counts, gamma=gamma, tau=0.0)(z, y), build_loss("cdt", counts, gamma=gamma)(z, y))
    close(build_loss("seesaw", counts, p=0.0, q=0.0)(z, y), plain)
    close(build_loss("focal", counts, gamma=0.0)(z, y), plain)
    close(build_loss("seql", counts, gamma=0.0, threshold=1.1)(z, y), plain)
    for reduction in ("weighted-mean", "batch-mean"):
        close(build_loss("effective-number", counts, beta=0.0, reduction=reduction)(z, y), plain)


@settings(deadline=None)
@given(problems(), st.integers(1, 500))
def test_balanced_counts_make_every_method_plain_cross_entropy(problem, n):
    counts, z, y = problem
    balanced = [n] * len(counts)
    plain = F.cross_entropy(z, y)
    options = {
        "label-aware-smoothing": {"tail": 0.0},
        "seesaw": {"q": 0.0},
        "seql": {"threshold": 1.0 / len(counts), "gamma": 1.0},
        "focal": {"gamma": 0.0},
    }
    for name in set(LOSS_NAMES) - {"ldam"}:
        close(build_loss(name, balanced, **options.get(name, {}))(z, y), plain)
    cosines = F.normalize(z)
    margin = 0.5 * F.one_hot(y, len(counts))
    close(build_loss("ldam", balanced)(cosines, y), F.cross_entropy(30.0 * (cosines - margin), y))


@settings(deadline=None)
@given(problems(), st.integers(2, 20))
def test_scaling_the_counts(problem, factor):
    counts, z, y = problem
    scaled = [factor * n for n in counts]
    for name in ("balanced-softmax", "logit-adjustment", "vs", "ldam", "cdt", "seesaw", "inverse-frequency"):
        close(build_loss(name, counts)(z, y), build_loss(name, scaled)(z, y))
    # Weights of nearly equal counts are nearly 1 however large the counts are, and so are those of large ones: 0.99^500
    # is less than a hundredth.
    if min(counts) < 500 and max(counts) > 1.1 * min(counts):
        options = {"beta": 0.99, "reduction": "batch-mean"}
        weights = [build_loss("effective-number", c, **options).weight for c in (counts, scaled)]
        assert not torch.allclose(*weights, rtol=1e-9, atol=0)


@settings(deadline=None)
@given(problems(), st.floats(-5, 5))
def test_a_constant_on_all_log_priors_or_logits_changes_nothing(problem, constant):
    counts, z, y = problem
    for name in ("balanced-softmax", "logit-adjustment"):
        loss = build_loss(name, counts)
        before = loss(z, y)
        loss.offsets += constant
        close(loss(z, y), before)
    for name in ("ce", "effective-number", "balanced-softmax", "ldam", "seesaw", "focal", "label-aware-smoothing"):
        loss = build_loss(name, counts)
        torch.testing.assert_close(loss(z + constant, y), loss(z, y), rtol=1e-7, atol=1e-8)


@settings(deadline=None)
@given(problems(), st.floats(0.1, 100))
def test_scale_of_the_weights_matters_for_the_batch_mean_only(problem, scale):
    counts, z, y = problem
    weight = build_loss("inverse-frequency", counts).weight
    for reduction, factor in (("weighted-mean", 1.0), ("batch-mean", scale)):
        losses = [CrossEntropy(counts, weight=w, reduction=reduction)(z, y) for w in (weight, scale * weight)]
        close(losses[1], factor * losses[0])


@settings(deadline=None)
@given(problems())
def test_losses_follow_a_permutation_of_the_classes(problem):
    counts, z, y = problem
    order = torch.randperm(len(counts), generator=torch.Generator().manual_seed(len(counts)))
    place = torch.argsort(order)
    for name in set(LOSS_NAMES) - {"seql"}:
        moved = build_loss(name, [counts[i] for i in order.tolist()])(z[:, order], place[y])
        close(moved, build_loss(name, counts)(z, y))


COUNTS = [300, 40, 40, 5, 1]


def toy(dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(5)
    logits = scale * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return logits.to(dtype).requires_grad_(), torch.tensor([0, 1, 2, 3, 4, 4, 0])


CASES = [(name, {}) for name in LOSS_NAMES] + [
    ("focal", {"gamma": 0.5, "weighting": "inverse-frequency", "reduction": "batch-mean"}),
    ("vs", {"weighting": "effective-number", "label_smoothing": 0.1}),
    ("label-aware-smoothing", {"weighting": "effective-number"}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradient_matches_finite_differences(name, options):
    z, y = toy()
    generator = torch.Generator()
    if name == "seql":
        options = {"threshold": 0.2, "generator": generator}
    loss = build_loss(name, COUNTS, **options)
    fixed = loss.factors(z, y) if name == "seesaw" else None

    def function(logits):
        generator.manual_seed(0)  # the same random mask at every call
        return loss(logits, y) if fixed is None else F.cross_entropy(logits + fixed, y)

    assert torch.autograd.gradcheck(function, (z,))
    generator.manual_seed(0)
    (actual,) = torch.autograd.grad(loss(z, y), z)
    (expected,) = torch.autograd.grad(function(z), z)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_finite_in_low_precision(name, options, scale, dtype):
    z, y = toy(dtype, scale)
    loss = build_loss(name, COUNTS, **options)(z, y)
    assert loss.dtype == torch.float32
    loss.backward()
    assert math.isfinite(loss.item())
    assert z.grad.dtype == dtype
    assert z.grad.isfinite().all()
    if name != "seql":
        exact = build_loss(name, COUNTS, **options)(z.detach().double(), y)
        assert loss.item() == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_is_finite_where_the_label_is_certain(gamma):
    z = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    build_loss("focal", [3, 2, 1], gamma=gamma)(z, torch.tensor([0, 0])).backward()
    assert z.grad.isfinite().all()
    assert z.grad[1].abs().sum() > 0


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "options"), CASES)
def test_cuda_agrees_with_the_cpu(name, options):
    values = []
    for device in ("cpu", "cuda"):
        z, y = toy(torch.float32)
        torch.manual_seed(3)
        loss = build_loss(name, COUNTS, **options).to(device)(z.to(device), y.to(device))
        loss.backward()
        values.append((loss.cpu(), z.grad))
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-6)
