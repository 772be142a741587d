"""Gradients of the architecture parameters in the bilevel problem of DARTS (Liu et al. 2019, equations 5 to 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from imbnas.training.optimizer import SGD

Closure = Callable[[], Tensor]
"""Computes a loss on a fixed batch at the present weights and architecture parameters."""
RADIUS = 0.01
"""Length of the finite difference's step in weight space."""


@dataclass(frozen=True)
class Levels:
    """Both levels of the problem at one step, as an estimate of the architecture's gradient sees them.

    `train` is the loss on the weights' batch, `valid` that on the architecture's; `optimizer` moves the weights at
    `rate` and is None where they stay as they are.
    """

    train: Closure
    valid: Closure
    architecture: Sequence[Parameter]
    optimizer: SGD | torch.optim.SGD | None
    rate: float


ArchitectureGradient = Callable[[Levels], tuple[list[Tensor], Tensor]]
"""Returns the architecture parameters' gradients, one for each of them, and the loss on the architecture's batch."""


def first_order(valid: Closure, architecture: Sequence[Parameter]) -> tuple[list[Tensor], Tensor]:
    """Return the gradient of the validation loss at the present weights, and that loss.

    No gradient is computed for the weights.
    """
    loss = valid()
    return _gradients(loss, architecture), loss.detach()


def second_order(
    train: Closure,
    valid: Closure,
    architecture: Sequence[Parameter],
    optimizer: SGD | torch.optim.SGD,
    rate: float,
) -> tuple[list[Tensor], Tensor]:
    """Return the gradient of the validation loss after one step of the weights, and that loss.

    With w' = w - rate * (momentum * buffer + grad L_train + decay * w), which is what `optimizer` would do next:
    grad_a L_valid(w', a) - rate * (grad_a L_train(w+, a) - grad_a L_train(w-, a)) / (2 e), where w+- = w +- e v,
    v = grad_w' L_valid and e = 0.01 / |v|. Nesterov's momentum multiplies gradient and decay by 1 + momentum. At rate 0
    it is `first_order`. The weights are those of `optimizer`; they come back bit for bit, from copies.
    """
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in weights]
    gradient = _gradients(train(), weights)
    factors = _unroll(optimizer, gradient, rate)
    try:
        loss = valid()
        found = _gradients(loss, [*architecture, *weights])
        direct, step = found[: len(architecture)], found[len(architecture) :]
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(step)))
        if not float(length):
            return direct, loss.detach()
        radius = RADIUS / float(length)
        sides = []
        for sign in (1.0, -1.0):
            _set(weights, torch._foreach_add(before, torch._foreach_mul(step, sign * radius)))
            sides.append(_gradients(train(), architecture))
    finally:
        _set(weights, before)
    scale = rate * factors / (2.0 * radius)
    return [g - scale * (p - n) for g, p, n in zip(direct, *sides, strict=True)], loss.detach()


def _unroll(optimizer: SGD | torch.optim.SGD, gradient: list[Tensor], rate: float) -> float:
    """Move the weights one step of `optimizer` at `rate` without changing its state.

    Returns how often the gradient enters that step: 1, or 1 + momentum with Nesterov's.
    """
    place, factor = 0, 1.0
    for group in optimizer.param_groups:
        weights: list[Tensor] = group["params"]
        step = list(gradient[place : place + len(weights)])
        place += len(weights)
        momentum, nesterov = group["momentum"], group["nesterov"]
        factor = 1.0 + momentum if nesterov else 1.0
        with torch.no_grad():
            if group["weight_decay"]:
                step = list(torch._foreach_add(step, weights, alpha=group["weight_decay"]))
            if nesterov:
                step = list(torch._foreach_mul(step, factor))
            if momentum:
                known = [optimizer.state[p].get("momentum_buffer") for p in weights]
                buffers = [torch.zeros_like(p) if b is None else b for p, b in zip(weights, known, strict=True)]
                torch._foreach_add_(step, buffers, alpha=momentum * momentum if nesterov else momentum)
            torch._foreach_add_(weights, step, alpha=-rate)
    return factor


def _gradients(loss: Tensor, parameters: Sequence[Parameter]) -> list[Tensor]:
    """Return gradients, zeros where a parameter took no part."""
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


def _set(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(list(weights), list(values))


def _second_order(levels: Levels) -> tuple[list[Tensor], Tensor]:
    if levels.optimizer is None:
        raise ValueError("the second order needs weights that learn")
    return second_order(levels.train, levels.valid, levels.architecture, levels.optimizer, levels.rate)


GRADIENTS: dict[str, ArchitectureGradient] = {
    "first": lambda levels: first_order(levels.valid, levels.architecture),
    "second": _second_order,
}
"""Gradients that are found at one step, ahead of the weights' step, by `search.darts.order`."""
