"""Against collapse to skip connections: perturbed weights, the loss's curvature, and a stop before it is too late."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from imbnas.spaces.relaxed import Relaxed

STEPS = 7
"""Steps of the adversarial perturbation."""


def perturbation_radius(epoch: int, epochs: int, first: float, last: float) -> float:
    """Return the radius in an epoch, rising linearly (SmoothDARTS, Chen and Hsieh 2020; 0.03 to 0.3 in their code)."""
    return first + (last - first) * epoch / epochs


def projected(relaxed: Relaxed, moves: dict[str, Tensor]) -> Relaxed:
    """Return weights moved by `moves`, cut to [0, 1] and scaled so that those of an edge sum to 1 again."""
    moved = {kind: (weights + moves[kind]).clamp(0.0, 1.0) for kind, weights in relaxed.operations.items()}
    tiny = torch.finfo(torch.float32).tiny
    shares = {kind: weights / weights.sum(dim=1, keepdim=True).clamp_min(tiny) for kind, weights in moved.items()}
    return Relaxed(shares, relaxed.edges, relaxed.skip)


def random_perturbation(relaxed: Relaxed, radius: float, generator: torch.Generator) -> Relaxed:
    """Return weights moved by uniform noise in [-radius, radius] of a CPU generator (SmoothDARTS, RS)."""
    return projected(relaxed, _noise(relaxed, radius, generator))


def _noise(relaxed: Relaxed, radius: float, generator: torch.Generator) -> dict[str, Tensor]:
    return {
        kind: ((2.0 * torch.rand(weights.shape, generator=generator) - 1.0) * radius).to(weights)
        for kind, weights in relaxed.operations.items()
    }


def adversarial_perturbation(
    relaxed: Relaxed, radius: float, loss: Callable[[Relaxed], Tensor], generator: torch.Generator
) -> Relaxed:
    """Return weights moved uphill by projected gradient ascent in the maximum norm (SmoothDARTS, ADV).

    Seven steps of 2/7 of the radius from a random point within it, drawn from a CPU generator, as in the authors' code;
    the weights stay where they are unless the loss has risen.
    """
    start = relaxed.detached()
    with torch.no_grad():
        before = loss(start)
    moves = _noise(start, radius, generator)
    for _ in range(STEPS):
        for move in moves.values():
            move.requires_grad_(True)
        value = loss(projected(start, moves))
        gradients = torch.autograd.grad(value, list(moves.values()), allow_unused=True, materialize_grads=True)
        moves = {
            kind: (move.detach() + 2.0 * radius / STEPS * gradient.sign()).clamp(-radius, radius)
            for (kind, move), gradient in zip(moves.items(), gradients, strict=True)
        }
    end = projected(start, moves)
    with torch.no_grad():
        after = loss(end)
    return end if bool(after > before) else start


def dominant_eigenvalue(
    loss: Tensor, parameters: Sequence[Parameter], generator: torch.Generator, iterations: int, tolerance: float = 1e-3
) -> float:
    """Return the eigenvalue of largest magnitude of the Hessian of `loss` over all `parameters` together.

    Power iteration on exact Hessian-vector products by double backward, from a random unit vector of a CPU generator,
    until two Rayleigh quotients differ by less than `tolerance` of the value or `iterations` are over.
    """
    found = torch.autograd.grad(loss, parameters, create_graph=True)
    gradient = torch.cat([g.flatten() for g in found])
    vector = torch.randn(gradient.shape, generator=generator, dtype=torch.float64).to(gradient)
    vector = vector / vector.norm()
    value = 0.0
    for _ in range(iterations):
        found = torch.autograd.grad(gradient, parameters, grad_outputs=vector, retain_graph=True)
        product = torch.cat([g.flatten() for g in found]).detach()
        previous, value = value, float(torch.dot(vector, product))
        length = product.norm()
        if not float(length):
            return 0.0
        vector = product / length
        if abs(value - previous) <= tolerance * abs(value):
            break
    return value


def should_stop(values: Sequence[float], ratio: float, window: int, back: int, patience: int) -> bool:
    """Return whether the dominant eigenvalue has risen too fast (R-DARTS, Zela et al. 2020, section 4.3).

    `values` has one entry per epoch. The mean of the last `window` is compared with that of `back` epochs earlier; the
    search stops when it is more than `ratio` times as large, and not before `patience` epochs.
    """
    if len(values) < max(patience, back + 1):
        return False

    def mean(end: int) -> float:
        part = values[max(0, end - window) : end]
        return sum(part) / len(part)

    earlier = mean(len(values) - back)
    return earlier > 0.0 and mean(len(values)) / earlier > ratio


def epoch_before_rise(detected: int, window: int, back: int, patience: int) -> int:
    """Return the 1-based epoch whose architecture is taken when `should_stop` has fired after epoch `detected`.

    The mean over `window` epochs is centred on its middle and was compared with that of `back` epochs earlier, so that
    the rise began after epoch detected - (window // 2 + back); none before `patience` is taken (R-DARTS' code).
    """
    return max(detected - (window // 2 + back), min(patience, detected))
