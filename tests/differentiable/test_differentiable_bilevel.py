"""Gradients of the bilevel problem against exact autograd, and the weights that must come back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from imbnas.differentiable.bilevel import first_order, second_order

RATE, DECAY = 0.05, 3e-3


class Toy(nn.Module):
    """Three layers whose outputs are mixed by two architecture parameters, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)]).double()

    def forward(self, x: Tensor, mix: Tensor) -> Tensor:
        shares = mix.softmax(dim=0)
        for layer, share in zip(self.layers, shares, strict=False):
            x = share * torch.tanh(layer(x)) + (1.0 - share) * x
        return self.layers[2](x)


class Problem:
    """A toy with its batches, and an optimiser that has taken some steps, so that its momentum is not zero."""

    def __init__(self, momentum: float = 0.9, nesterov: bool = False) -> None:
        torch.manual_seed(0)
        self.model = Toy()
        self.mix = nn.Parameter(torch.tensor([0.3, -0.2], dtype=torch.float64))
        self.data = [(torch.randn(32, 6).double(), torch.randint(0, 3, (32,))) for _ in range(2)]
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=RATE, momentum=momentum, weight_decay=DECAY, nesterov=nesterov
        )
        for _ in range(3):
            self.optimizer.zero_grad()
            self.train().backward()
            self.optimizer.step()

    def loss(self, level: int, weights: dict[str, Tensor] | None = None) -> Tensor:
        x, y = self.data[level]
        out = functional_call(self.model, weights, (x, self.mix)) if weights else self.model(x, self.mix)
        return nn.functional.cross_entropy(out, y)

    def train(self) -> Tensor:
        return self.loss(0)

    def valid(self) -> Tensor:
        return self.loss(1)

    def exact(self, rate: float) -> Tensor:
        """Return the gradient through one step of SGD by create_graph."""
        names = dict(self.model.named_parameters())
        gradients = torch.autograd.grad(self.train(), list(names.values()), create_graph=True)
        moved = {}
        for (name, weight), gradient in zip(names.items(), gradients, strict=True):
            group = self.optimizer.param_groups[0]
            step = gradient + group["weight_decay"] * weight
            if group["momentum"]:
                buffer = group["momentum"] * self.optimizer.state[weight]["momentum_buffer"] + step
                step = step + group["momentum"] * buffer if group["nesterov"] else buffer
            moved[name] = weight - rate * step
        return torch.autograd.grad(self.loss(1, moved), self.mix)[0]

    def found(self, rate: float) -> Tensor:
        return second_order(self.train, self.valid, [self.mix], self.optimizer, rate)[0][0]


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_second_order_is_the_exact_gradient_through_the_next_step(momentum: float, nesterov: bool) -> None:
    problem = Problem(momentum, nesterov)
    exact, found = problem.exact(RATE), problem.found(RATE)
    assert torch.cosine_similarity(exact, found, dim=0) > 0.999999
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-8)
    first = first_order(problem.valid, [problem.mix])[0][0]
    assert not torch.allclose(first, exact, rtol=1e-2), "the second order term must matter for this test to mean much"


def test_the_momentum_counts() -> None:
    problem = Problem()
    found = problem.found(RATE)
    for state in problem.optimizer.state.values():
        state["momentum_buffer"].zero_()
    assert not torch.allclose(problem.found(RATE), found, rtol=1e-3, atol=0.0)


def test_the_optimiser_would_have_gone_where_the_gradient_was_taken() -> None:
    """The unrolled point is the optimiser's own next step, seen from inside the validation loss."""
    for nesterov in (False, True):
        problem = Problem(nesterov=nesterov)
        seen: list[list[Tensor]] = []

        def watched(problem: Problem = problem, seen: list[list[Tensor]] = seen) -> Tensor:
            seen.append([p.detach().clone() for p in problem.model.parameters()])
            return problem.valid()

        second_order(problem.train, watched, [problem.mix], problem.optimizer, RATE)
        problem.optimizer.zero_grad()
        problem.train().backward()
        problem.optimizer.step()
        torch.testing.assert_close(seen[0], [p.detach() for p in problem.model.parameters()], rtol=1e-12, atol=1e-14)


def test_at_rate_zero_it_is_first_order() -> None:
    problem = Problem()
    first, loss = first_order(problem.valid, [problem.mix])
    gradients, same = second_order(problem.train, problem.valid, [problem.mix], problem.optimizer, 0.0)
    assert torch.equal(gradients[0], first[0])
    assert torch.equal(loss, same)


def test_weights_come_back_bit_for_bit_even_after_a_failure() -> None:
    problem = Problem()
    before = [p.detach().clone() for p in problem.model.parameters()]
    state = {key: value["momentum_buffer"].clone() for key, value in problem.optimizer.state.items()}
    problem.found(RATE)

    def broken() -> Tensor:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        second_order(problem.train, broken, [problem.mix], problem.optimizer, RATE)
    assert all(torch.equal(a, b) for a, b in zip(before, problem.model.parameters(), strict=True))
    assert all(torch.equal(state[key], value["momentum_buffer"]) for key, value in problem.optimizer.state.items())


def test_a_validation_loss_that_ignores_the_weights_has_no_second_term() -> None:
    problem = Problem()
    gradients, _ = second_order(
        problem.train, lambda: problem.mix.square().sum(), [problem.mix], problem.optimizer, RATE
    )
    torch.testing.assert_close(gradients[0], 2.0 * problem.mix.detach())
