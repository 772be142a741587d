"""The zeroth-order gradient against the true one of a quadratic problem, and twins against what they copy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from imbnas.differentiable import zeroth
from imbnas.differentiable.zeroth import Twin, ZerothOrder, descend, direction, radius
from imbnas.params.recipe import OptimizerParams
from imbnas.params.zeroth_options import ZerothParams
from imbnas.training.optimizer import SGD, make_optimizer

WEIGHTS, ARCHITECTURE, PERIOD = 40, 30, 10
OPTIMIZER = OptimizerParams(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3, decay_norms=True, clip=0.0)


class Holder(nn.Module):
    """One vector of parameters."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values)


class Quadratic:
    """Weights w that descend on (w - B a)' H (w - B a) / 2, and an architecture a judged by |w - c|^2 / 2 + a' b."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        basis = torch.linalg.qr(drawn(WEIGHTS, WEIGHTS).double())[0].to(dtype)
        self.hessian = basis @ torch.diag(torch.linspace(0.1, 1.0, WEIGHTS, dtype=dtype)) @ basis.T
        self.coupling, self.goal, self.direct = drawn(WEIGHTS, ARCHITECTURE), drawn(WEIGHTS), drawn(ARCHITECTURE)
        self.learner, self.parameters = Holder(drawn(WEIGHTS)), Holder(0.3 * drawn(ARCHITECTURE))
        self.optimizer = make_optimizer(self.learner, OPTIMIZER)
        # Steps at another architecture fill the momentum.
        other = Holder(self.parameters.values.detach() + drawn(ARCHITECTURE))
        for _ in range(3):
            descend(self.optimizer, lambda: self.loss(self.learner, other), 0.0)

    def loss(self, learner: nn.Module, parameters: nn.Module) -> Tensor:
        away = learner.values - self.coupling @ parameters.values.detach()
        return 0.5 * away @ self.hessian @ away

    def valid(self) -> Tensor:
        return 0.5 * (self.learner.values - self.goal).square().sum() + self.parameters.values @ self.direct

    def truth(self) -> Tensor:
        """Return the gradient through PERIOD steps of SGD with Nesterov's momentum, unrolled by autograd."""
        a = self.parameters.values.detach().clone().requires_grad_(True)
        w = self.learner.values.detach()
        buffer = self.optimizer.state[self.learner.values]["momentum_buffer"]
        for _ in range(PERIOD):
            gradient = self.hessian @ (w - self.coupling @ a) + OPTIMIZER.weight_decay * w
            buffer = OPTIMIZER.momentum * buffer + gradient
            w = w - OPTIMIZER.lr * (gradient + OPTIMIZER.momentum * buffer)
        loss = 0.5 * (w - self.goal).square().sum() + a @ self.direct
        return torch.autograd.grad(loss, a)[0]

    def estimate(self, **options: object) -> Tensor:
        params = ZerothParams(period=PERIOD, **options)  # type: ignore[arg-type]
        order = ZerothOrder(
            params, self.learner, self.parameters, self.optimizer, lambda m: make_optimizer(m, OPTIMIZER), 0.0, 0
        )
        found = None
        for step in range(PERIOD):
            assert found is None
            order.begin(step)
            descend(self.optimizer, lambda: self.loss(self.learner, self.parameters), 0.0)
            order.follow(self.loss, OPTIMIZER.lr)
            found = order.estimate(step, self.valid)
        assert found is not None
        return found[0][0]


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make direction n the n-th axis: the mean over all of them is then the gradient over their number, exactly."""
    places: dict[int, int] = {}

    def axis(parameters: list[Tensor], seed: int) -> list[Tensor]:
        place = places.setdefault(seed, len(places))
        return [torch.eye(ARCHITECTURE, dtype=parameters[0].dtype)[place]]

    monkeypatch.setattr(zeroth, "direction", axis)


@pytest.mark.parametrize("antithetic", [False, True])
def test_with_matched_state_it_is_the_gradient_through_the_steps(axes: None, antithetic: bool) -> None:
    problem = Quadratic()
    truth = problem.truth()
    found = problem.estimate(directions=ARCHITECTURE, antithetic=antithetic) * ARCHITECTURE
    assert torch.cosine_similarity(found, truth, dim=0) > 0.99
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-7)
    # What remains without the weights' part points elsewhere: the estimate is not the first order's.
    assert torch.cosine_similarity(problem.direct, truth, dim=0) < 0.9


def test_with_a_fresh_optimiser_it_would_be_another_one(axes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published code gives the twin an optimiser without momentum: the weights then part for that reason alone."""
    begin = Twin.begin

    def fresh(twin: Twin, *arguments: object) -> None:
        begin(twin, *arguments)  # type: ignore[arg-type]
        for state in twin.optimizer.state.values():
            state["momentum_buffer"].zero_()

    monkeypatch.setattr(Twin, "begin", fresh)
    problem = Quadratic()
    truth = problem.truth()
    assert torch.cosine_similarity(problem.estimate(directions=ARCHITECTURE), truth, dim=0) < 0.5


def test_one_direction_gives_the_derivative_along_it() -> None:
    problem = Quadratic()
    truth = problem.truth()
    found = problem.estimate(radius=0.5)
    along = found / found.norm()
    torch.testing.assert_close(found, (truth @ along) * along, rtol=1e-5, atol=1e-7)


def test_directions_are_uniform_on_the_sphere_and_functions_of_their_seed() -> None:
    shapes = [torch.zeros(2, 3), torch.zeros(4)]
    drawn = torch.stack([torch.cat([part.flatten() for part in direction(shapes, seed)]) for seed in range(4000)])
    assert [part.shape for part in direction(shapes, 0)] == [values.shape for values in shapes]
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(4000))
    # The standard error of a mean square is about 0.002, of a mean 0.005.
    assert drawn.mean(dim=0).abs().max() < 0.025
    torch.testing.assert_close(drawn.T @ drawn / 4000, torch.eye(10) / 10, atol=0.012, rtol=0.0)
    assert torch.equal(direction(shapes, 5)[1], direction(shapes, 5)[1])


class Net(nn.Module):
    """Convolutions with BatchNorm, mixed by two architecture parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, size, padding=size // 2, bias=False) for size in (1, 3))
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 4)

    def forward(self, x: Tensor, mix: Tensor) -> Tensor:
        y = sum(share * conv(x) for conv, share in zip(self.convs, mix.softmax(dim=0), strict=True))
        return self.head(torch.relu(self.norm(y)).mean(dim=(2, 3)))


def network(dtype: torch.dtype) -> tuple[Net, Holder, SGD, Callable[[nn.Module, nn.Module], Tensor], OptimizerParams]:
    torch.manual_seed(0)
    net, holder = Net().to(dtype), Holder(1e-3 * torch.randn(2).to(dtype))
    images, labels = torch.randn(16, 3, 6, 6).to(dtype), torch.arange(16) % 4
    params = OPTIMIZER.model_copy(update={"clip": 0.5})

    def loss(learner: nn.Module, parameters: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(learner(images, parameters.values.detach()), labels)

    optimizer = make_optimizer(net, params)
    for _ in range(4):
        descend(optimizer, lambda: loss(net, holder), params.clip)
    return net, holder, optimizer, loss, params


def test_a_twin_that_is_not_moved_takes_the_same_steps_bit_for_bit() -> None:
    """Momentum, Nesterov's, weight decay, clipping and the rate of each step are the learner's."""
    net, holder, optimizer, loss, params = network(torch.float32)
    twin = Twin(net, holder, lambda module: make_optimizer(module, params))
    twin.begin(net, holder, optimizer, [torch.zeros(2)])
    for rate in (0.1, 0.03, 0.2):
        optimizer.set_rate(rate)
        descend(optimizer, lambda: loss(net, holder), params.clip)
        twin.follow(loss, rate, params.clip)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.learner.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), twin.learner.buffers(), strict=True))


def test_a_twin_s_architecture_stays_where_it_was_moved_and_its_weights_do_not() -> None:
    net, holder, optimizer, loss, params = network(torch.float32)
    twin = Twin(net, holder, lambda module: make_optimizer(module, params))
    for _ in range(2):
        twin.begin(net, holder, optimizer, [torch.tensor([0.5, -0.5])])
        torch.testing.assert_close(twin.parameters.values, holder.values.detach() + torch.tensor([0.5, -0.5]))
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.learner.parameters(), strict=True))
        twin.follow(loss, 0.1, params.clip)
        assert not any(torch.equal(a, b) for a, b in zip(net.parameters(), twin.learner.parameters(), strict=True))
    assert not twin.parameters.values.requires_grad


def quotient(dtype: torch.dtype, mu: float) -> Tensor:
    """Return (w' - w) / mu after a group of steps."""
    net, holder, optimizer, loss, params = network(dtype)
    twin = Twin(net, holder, lambda module: make_optimizer(module, params))
    twin.begin(net, holder, optimizer, [torch.tensor([0.6 * mu, -0.8 * mu], dtype=dtype)])
    for _ in range(PERIOD):
        descend(optimizer, lambda: loss(net, holder), params.clip)
        twin.follow(loss, 0.1, params.clip)
    pairs = zip(twin.learner.parameters(), net.parameters(), strict=True)
    return torch.cat([((a - b) / mu).detach().double().flatten() for a, b in pairs])


def test_the_radius_has_a_floor_below_which_float32_is_rounding() -> None:
    assert radius([torch.full((4,), 3.0), torch.full((12,), 3.0)], 0.005, 1e-3) == pytest.approx(0.06)
    first = [1e-3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))]
    published = radius(first, 0.005, 1e-9)
    assert published == pytest.approx(2.7e-5, rel=0.2)
    assert radius(first, 0.005, 1e-3) == 1e-3
    quotients = {
        (dtype, mu): quotient(dtype, mu) for dtype in (torch.float32, torch.float64) for mu in (published, 1e-3)
    }
    alike = [
        float(torch.cosine_similarity(quotients[torch.float32, mu], quotients[torch.float64, mu], dim=0))
        for mu in (published, 1e-3)
    ]
    assert alike[1] > 0.999
    assert 1.0 - alike[0] > 10.0 * (1.0 - alike[1]), "else the floor would do nothing here"


def test_an_unfinished_group_moves_nothing() -> None:
    problem = Quadratic()
    order = ZerothOrder(
        ZerothParams(period=3),
        problem.learner,
        problem.parameters,
        problem.optimizer,
        lambda module: make_optimizer(module, OPTIMIZER),
        0.0,
        0,
    )
    found = []
    for step in range(8):
        if step == 4:
            order.rest()
        else:
            order.begin(step)
            order.follow(problem.loss, 0.1)
        found.append(order.estimate(step, problem.valid) is not None)
    assert found == [False, False, True, False, False, False, False, False], (
        "the group of step 4 is left, 6 to 8 is open"
    )
    assert order.snapshot()["began"] == 6
