import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imbnas.errors import UserError
from imbnas.longtail.heads import (
    TAU_GRID,
    CosineHead,
    NearestClassMean,
    ScaledHead,
    choose_tau,
    linear_head,
    make_head,
    posthoc_adjustment,
    tau_normalise,
)

torch.set_num_threads(1)


def trained(bias=True):
    torch.manual_seed(0)
    return nn.Linear(6, 4, bias=bias).double()


def features(rows=9, seed=1):
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_linear_head_is_new_and_seeded():
    torch.manual_seed(3)
    first, second = linear_head(500, 40), linear_head(500, 40)
    assert not torch.equal(first.weight, second.weight)
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert not first.bias.any()
    torch.manual_seed(3)
    assert torch.equal(linear_head(500, 40).weight, first.weight)


def test_cosine_head():
    head = CosineHead(6, 4).double()
    x = features()
    logits = head(x)
    expected = F.cosine_similarity(x[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(head(7 * x), logits)
    scaled = CosineHead(6, 4, scale=30.0).double()
    scaled.load_state_dict(head.state_dict())
    torch.testing.assert_close(scaled(x), 30 * logits)
    assert [name for name, _ in head.named_parameters()] == ["weight"]


@pytest.mark.parametrize("bias", [True, False])
def test_scaled_head_trains_the_scales_only(bias):
    linear = trained(bias)
    head = ScaledHead(linear)
    x = features()
    torch.testing.assert_close(head(x), linear(x))
    assert {name: p.shape for name, p in head.named_parameters()} == {"scales": (4,)}
    head(x).square().sum().backward()
    assert linear.weight.grad is None
    with torch.no_grad():
        head.scales.copy_(torch.tensor([1.0, 2.0, 0.5, -1.0]))
    torch.testing.assert_close(head(x), linear(x) * head.scales)  # the bias is scaled too
    torch.testing.assert_close(head.linear()(x), head(x))


def test_scaled_head_keeps_its_weights_with_the_model():
    saved = ScaledHead(trained()).state_dict()
    assert set(saved) == {"weight", "bias", "scales"}
    other = ScaledHead(nn.Linear(6, 4).double())
    other.load_state_dict(saved)
    torch.testing.assert_close(other(features()), trained()(features()))


def test_tau_normalisation():
    linear = trained()
    assert torch.equal(tau_normalise(linear, 0.0).weight, linear.weight)
    torch.testing.assert_close(tau_normalise(linear, 1.0).weight.norm(dim=1), torch.ones(4, dtype=torch.float64))
    norms = linear.weight.norm(dim=1)
    torch.testing.assert_close(tau_normalise(linear, 0.5).weight.norm(dim=1), norms.sqrt())
    for tau in (0.0, 0.7):
        assert tau_normalise(linear, tau).bias is None
    with torch.no_grad():
        linear.weight[2] = 0.0
    assert not tau_normalise(linear, 2.0).weight[2].any()


@settings(deadline=None)
@given(st.floats(0, 2), st.floats(0.01, 100))
def test_tau_one_forgets_the_norms(tau, factor):
    linear, grown = trained(), trained()
    with torch.no_grad():
        grown.weight *= factor
    torch.testing.assert_close(tau_normalise(grown, 1.0).weight, tau_normalise(linear, 1.0).weight)
    expected = tau_normalise(linear, tau).weight * factor ** (1 - tau)
    torch.testing.assert_close(tau_normalise(grown, tau).weight, expected)


def test_tau_grid_is_kangs():
    np.testing.assert_allclose(TAU_GRID, np.linspace(0, 2, 21))


def test_choose_tau_undoes_a_grown_head_class():
    """The head class's row is ten times too long: some normalisation is needed to see the other class."""
    head = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[10.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
    x = torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.5, 1.0], [0.4, 1.0]])
    labels = torch.tensor([0, 0, 1, 1])
    tau = choose_tau(head, x, labels)
    assert (tau_normalise(head, tau)(x).argmax(dim=1) == labels).all()
    assert not (tau_normalise(head, round(tau - 0.1, 1))(x).argmax(dim=1) == labels).all()
    assert choose_tau(head, x[:2], labels[:2]) == 0.0
    with pytest.raises(UserError, match="no validation rows"):
        choose_tau(head, x[:0], labels[:0])


def test_choose_tau_counts_classes_alike():
    """Nine rows of class 0 need tau 0, one row of class 1 and one of class 2 need tau 2."""
    head = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 1.0], [-0.1, 0.01]]))
    x = torch.cat([torch.tensor([[1.0, 3.0]]).repeat(9, 1), torch.tensor([[1.0, 3.5], [-1.0, 0.5]])])
    labels = torch.tensor([0] * 9 + [1, 2])
    assert choose_tau(head, x, labels, grid=(0.0, 2.0)) == 2.0


def test_nearest_class_mean():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]])
    labels = torch.tensor([0] * 50 + [1] * 8 + [2] * 2)
    x = centres[labels] + 0.3 * torch.randn(60, 2, generator=generator)
    classifier = NearestClassMean.fit(x, labels, 3)
    unit = F.normalize(x - x.mean(dim=0))
    means = torch.stack([unit[labels == k].mean(dim=0) for k in range(3)])
    torch.testing.assert_close(classifier.centroids, means)
    torch.testing.assert_close(classifier(x), -torch.cdist(unit, means).square(), atol=1e-5, rtol=1e-4)
    assert (classifier(x).argmax(dim=1) == labels).all()
    fresh = centres + 0.1
    assert classifier(fresh).argmax(dim=1).tolist() == [0, 1, 2]
    loaded = NearestClassMean(2, 3)
    assert not loaded(fresh).equal(classifier(fresh))
    loaded.load_state_dict(classifier.state_dict())
    assert torch.equal(loaded(fresh), classifier(fresh))
    assert set(classifier.state_dict()) == {"mean", "centroids"}
    assert not list(classifier.parameters())
    assert NearestClassMean.fit(x.double(), labels, 3).centroids.dtype == torch.float64


def test_nearest_class_mean_names_an_empty_class():
    with pytest.raises(UserError, match="class 1 has 0 training rows"):
        NearestClassMean.fit(torch.ones(2, 3), torch.tensor([0, 2]), 3)


@pytest.mark.parametrize(
    ("description", "kind", "state"),
    [
        ({"name": "linear"}, nn.Linear, {"weight", "bias"}),
        ({"name": "cosine", "scale": 16}, CosineHead, {"weight"}),
        ({"name": "ncm"}, NearestClassMean, {"mean", "centroids"}),
    ],
)
def test_make_head(description, kind, state):
    torch.manual_seed(5)
    head = make_head(description, 6, 4)
    assert type(head) is kind
    assert set(head.state_dict()) == state
    assert head(torch.randn(9, 6)).shape == (9, 4)
    torch.manual_seed(5)
    twin = make_head(description, 6, 4)
    assert all(value.equal(twin.state_dict()[name]) for name, value in head.state_dict().items())


def test_make_head_takes_the_scale():
    head = make_head({"name": "cosine", "scale": 16.0}, 6, 4)
    assert head(head.weight.detach()[:1])[0, 0].item() == pytest.approx(16.0)


@pytest.mark.parametrize(
    "description",
    [
        None,
        "linear",
        {},
        {"name": "lws"},
        {"name": "linear", "scale": 1.0},
        {"name": "ncm", "scale": None},
        {"name": "cosine"},
        {"name": "cosine", "scale": 0.0},
        {"name": "cosine", "scale": float("inf")},
        {"name": "cosine", "scale": True},
        {"name": "cosine", "scale": "30"},
        {"name": "cosine", "scale": 30.0, "margin": 0.5},
        {"name": ["cosine"]},
    ],
)
def test_make_head_refuses_what_it_does_not_know(description):
    with pytest.raises(UserError, match=r"^head: found .*, expected the name linear, cosine"):
        make_head(description, 6, 4)


def test_posthoc_golden():
    z = torch.tensor([[2, 1, 0], [0, 1, 2], [1, 1, 1], [0.5, -0.5, 0.25]], dtype=torch.float64)
    assert z.argmax(dim=1).tolist() == [0, 2, 0, 0]
    assert posthoc_adjustment(z, [100, 10, 1]).argmax(dim=1).tolist() == [2, 2, 2, 2]
    assert torch.equal(posthoc_adjustment(z, [100, 10, 1], tau=0.0), z)


def test_posthoc_adjustment_is_bayes_under_a_uniform_prior():
    """Gaussian classes: the posterior under the training prior, adjusted, is the posterior under a uniform one."""
    counts = torch.tensor([900.0, 90.0, 10.0], dtype=torch.float64)
    means = torch.tensor([-1.0, 0.3, 1.5], dtype=torch.float64)
    x = torch.linspace(-4, 4, 801, dtype=torch.float64)[:, None]
    likelihood = -0.5 * (x - means).square()
    posterior = F.log_softmax(likelihood + torch.log(counts / counts.sum()), dim=1)
    adjusted = F.softmax(posthoc_adjustment(posterior, counts.numpy()), dim=1)
    torch.testing.assert_close(adjusted, F.softmax(likelihood, dim=1))
    assert (posterior.argmax(dim=1) != likelihood.argmax(dim=1)).any()
