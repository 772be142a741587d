"""Zero-cost proxies against independent formulas on tiny networks, in analytic cases, and by what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.params.space_options import SpaceParams, Stages
from imbnas.search.proxies import PROXIES, RIDGE, covariance_score, jacobian, synflow
from imbnas.spaces.registry import make_space


class Tiny(nn.Module):
    """Convolutions with BatchNorm, both activations, a shortcut, pooling and a head with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU6(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.relu(x + self.second(x))
        out: Tensor = self.head(x.mean(dim=(2, 3)))
        return out


def tiny(seed: int = 0) -> Tiny:
    torch.manual_seed(seed)
    network = Tiny()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 1.0)
    return network


def flow(network: Tiny) -> float:
    """R by hand: absolute weights, no BatchNorm, nothing cut off."""
    weights = {name: value.detach().double().abs() for name, value in network.named_parameters()}
    x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    x = torch.conv2d(x, weights["first.0.weight"], padding=1)
    x = x + torch.conv2d(x, weights["second.0.weight"], padding=1)
    return float((x.mean(dim=(2, 3)) @ weights["head.weight"].T + weights["head.bias"]).sum())


def test_synflow_is_what_each_weight_adds_to_the_flow() -> None:
    # R is linear in each single weight w, so that w dR/dw is R minus the R of a network without w.
    network, total = tiny(), 0.0
    whole = flow(network)
    assert whole > 50.0, "ReLU6 would have cut this off"
    for name in ("first.0", "second.0", "head"):
        weight = network.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        for place in range(weight.numel()):
            kept = float(weight.data.view(-1)[place])
            weight.data.view(-1)[place] = 0.0
            total += whole - flow(network)
            weight.data.view(-1)[place] = kept
    assert synflow(network, torch.zeros(5, 1, 4, 4)) == pytest.approx(math.log1p(total), rel=1e-10)


def test_synflow_of_a_chain_of_numbers_is_their_absolute_product_times_their_count() -> None:
    numbers = [0.5, -3.0, 2.0, -0.25]
    chain = nn.Sequential(*(nn.Conv2d(1, 1, 1, bias=False) for _ in numbers))
    for layer, number in zip(chain, numbers, strict=True):
        nn.init.constant_(layer.weight, number)  # type: ignore[arg-type]
    assert synflow(chain, torch.zeros(2, 1, 1, 1)) == pytest.approx(math.log1p(4 * 0.75))


def test_synflow_of_a_linear_chain_is_its_flow_times_its_depth() -> None:
    torch.manual_seed(3)
    chain = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    product = chain[2].weight.abs() @ chain[0].weight.abs()  # type: ignore[operator]
    assert synflow(chain, torch.randn(6, 3)) == pytest.approx(math.log1p(2 * product.sum().item()), rel=1e-6)


def test_synflow_changes_nothing_and_sees_no_images() -> None:
    network = tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scores = {synflow(network, torch.randn(n, 1, 4, 4)) for n in (1, 7)}
    assert len(scores) == 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_flow_beyond_float64_is_refused() -> None:
    chain = nn.Sequential(*(nn.Conv2d(1, 1, 1, bias=False) for _ in range(11)))
    for layer in chain:
        nn.init.constant_(layer.weight, 1e30)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"search\.method synflow: .*beyond float64"):
        synflow(chain, torch.zeros(1, 1, 1, 1))


def published(rows: np.ndarray) -> float:
    """The formula of the papers' code: numpy's correlations and its eigenvalues of a general matrix."""
    values = np.linalg.eigvals(np.corrcoef(rows)).real
    return float(-(np.log(values + 1e-5) + 1.0 / (values + 1e-5)).sum())


def test_the_jacobian_is_that_of_finite_differences() -> None:
    network = tiny(1).double()
    images = torch.randn(6, 1, 4, 4, dtype=torch.float64)
    rows, step = np.zeros((6, 16)), 1e-6
    for image in range(6):
        for pixel in range(16):
            ends = []
            for sign in (1.0, -1.0):
                moved = images.clone()
                moved[image].view(-1)[pixel] += sign * step
                with torch.no_grad():
                    ends.append(float(network(moved).sum()))
            rows[image, pixel] = (ends[0] - ends[1]) / (2 * step)
    assert jacobian(network, images) == pytest.approx(published(rows), rel=1e-3)


def test_the_score_of_rows_is_the_published_one() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 50))
    assert covariance_score(rows) == pytest.approx(published(rows), rel=1e-9)


def test_scale_and_shift_of_a_row_do_not_matter() -> None:
    rows = np.random.default_rng(1).normal(size=(8, 30))
    factors = 10.0 ** np.arange(-20, 12, 4)[:, None]
    assert covariance_score(rows * factors) == pytest.approx(covariance_score(rows), rel=1e-9)
    assert covariance_score(rows + np.arange(8)[:, None]) == pytest.approx(covariance_score(rows), rel=1e-9)


def test_the_extremes() -> None:
    n = 4
    apart = np.array([[1.0, -1.0, 0, 0, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0, 0, 0], [0] * 4 + [1, -1, 0, 0]])
    assert covariance_score(apart) == pytest.approx(-3 * (math.log(1 + RIDGE) + 1 / (1 + RIDGE)))
    alike = -(math.log(n + RIDGE) + 1 / (n + RIDGE)) - (n - 1) * (math.log(RIDGE) + 1 / RIDGE)
    assert covariance_score(np.tile(np.arange(5.0), (n, 1))) == pytest.approx(alike, rel=1e-6)
    assert covariance_score(np.zeros((n, 5))) == pytest.approx(alike, rel=1e-6)
    # A linear network treats all images alike.
    linear = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    assert jacobian(linear, torch.randn(n, 1, 3, 3)) == pytest.approx(alike, rel=1e-6)


def test_an_output_that_the_input_does_not_reach_is_worst() -> None:
    stages = Stages(channels=[16], repeats=[1], strides=[1])
    space = make_space(SpaceParams(name="nasbench201", stages=stages, last_channels=None))
    images = torch.randn(8, 1, 8, 8)
    scores: dict[str, dict[tuple[int, ...], float]] = {name: {} for name in PROXIES}
    for architecture in ((0,) * 6, (3, 3, 3, 3, 3, 3), (1, 2, 3, 0, 2, 4)):
        for name, proxy in PROXIES.items():
            torch.manual_seed(0)
            scores[name][architecture] = proxy(space.build_subnet(architecture, 10, 1), images)
    for found in scores.values():
        assert all(math.isfinite(score) for score in found.values())
        assert min(found, key=lambda a: found[a]) == (0,) * 6
        assert len(set(found.values())) == 3
    assert scores["synflow"][(0,) * 6] == 0.0


def test_the_jacobian_leaves_the_network_as_it_was() -> None:
    network = tiny().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(5, 1, 4, 4)
    assert jacobian(network, images) == jacobian(network, images)
    assert not network.training
    assert not images.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
