"""Zeroth-order gradient of the architecture (ZO-DARTS, and ZO-DARTS+, arXiv 2405.03462): weights that follow a twin.

The gradient of L_valid(w*(a), a) needs dw*/da. Along a direction z it is what K steps of a twin at a + mu z differ from
the same K steps at a, over mu: a difference of weights, without second derivatives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from imbnas.params.zeroth_options import ZerothParams
from imbnas.seeds import derive
from imbnas.training.optimizer import SGD

LossOf = Callable[[nn.Module, nn.Module], Tensor]
"""The loss on a step's batch of the weights' rows, for a learner and architecture parameters."""


def descend(optimizer: SGD, loss: Callable[[], Tensor], clip: float) -> Tensor:
    """Take one step of the weights and return the loss before it; `clip` is the gradient's largest norm, 0: none."""
    optimizer.zero_grad()
    value = loss()
    value.backward()
    if clip:
        optimizer.clip(clip)
    optimizer.step()
    return value.detach()


def radius(parameters: Sequence[Tensor], relative: float, floor: float) -> float:
    """Return mu: `relative` times the norm of all architecture parameters, and at least `floor`.

    At the published first parameters, normal(0, 1e-3), the relative radius is 3e-5: a difference of float32 weights
    over it is mostly rounding.
    """
    norm = torch.linalg.vector_norm(torch.cat([values.detach().double().flatten() for values in parameters]))
    return max(relative * float(norm), floor)


def direction(parameters: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Return a uniformly random point of the unit sphere over all parameters together, in their shapes."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(sum(values.numel() for values in parameters), generator=generator, dtype=torch.float64)
    parts = (drawn / drawn.norm()).split([values.numel() for values in parameters])
    return [part.view_as(values).to(values) for part, values in zip(parts, parameters, strict=True)]


class Twin:
    """A copy of the learner at moved architecture parameters, which stay where they are, with an optimiser of its own.

    The optimiser starts from the state of the learner's, momentum included: with a fresh one, as in the authors' code,
    the weights part for another reason than the architecture, and dividing by mu makes that reason the greatest.
    """

    def __init__(self, learner: nn.Module, parameters: nn.Module, make: Callable[[nn.Module], SGD]) -> None:
        """Copy both; `make` returns the optimiser of a learner."""
        self.learner = copy.deepcopy(learner)
        self.parameters = copy.deepcopy(parameters).requires_grad_(False)
        self.optimizer = make(self.learner)
        self.direction: list[Tensor] = []

    @torch.no_grad()
    def begin(self, learner: nn.Module, parameters: nn.Module, optimizer: SGD, move: Sequence[Tensor]) -> None:
        """Start from the learner's weights and its optimiser's state, the architecture moved by `move`."""
        self.learner.load_state_dict(learner.state_dict())
        self.optimizer.load_state_dict(optimizer.state_dict())
        for own, values, shift in zip(self.parameters.parameters(), parameters.parameters(), move, strict=True):
            own.copy_(values + shift)

    def follow(self, loss: LossOf, rate: float, clip: float) -> None:
        """Take the learner's step on the same batch."""
        self.optimizer.set_rate(rate)
        descend(self.optimizer, lambda: loss(self.learner, self.parameters), clip)

    def snapshot(self) -> dict[str, Any]:
        """Return the state between two steps."""
        return {
            "learner": self.learner.state_dict(),
            "parameters": self.parameters.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def take(self, saved: Mapping[str, Any]) -> None:
        """Take over what `snapshot` returned."""
        self.learner.load_state_dict(saved["learner"])
        self.parameters.load_state_dict(saved["parameters"])
        self.optimizer.load_state_dict(saved["optimizer"])


class ZerothOrder:
    """Groups of `period` steps of the weights, each followed by one estimate of the architecture's gradient.

    With z a random unit vector and w', w the weights after the group's steps at a + mu z and at a,
    g = (<grad_a L_valid(w, a), z> + <(w' - w) / mu, grad_w L_valid(w, a)>) z. In the mean over z it is the gradient
    over the number of parameters, which Adam's step does not feel. With antithetic directions (w' - w) / mu becomes
    (w'+ - w'-) / (2 mu), twins at a + mu z and a - mu z; several directions are averaged.
    """

    def __init__(
        self,
        params: ZerothParams,
        learner: nn.Module,
        parameters: nn.Module,
        optimizer: SGD,
        make: Callable[[nn.Module], SGD],
        clip: float,
        seed: int,
    ) -> None:
        """Take the learner and its optimiser; twins are made when the first group begins."""
        self.params, self.clip, self.seed = params, clip, seed
        self._learner, self._parameters, self._optimizer, self._make = learner, parameters, optimizer, make
        self._twins: list[Twin] = []
        self.began: int | None = None
        self.mu = 0.0

    @property
    def architecture(self) -> list[Parameter]:
        """All architecture parameters."""
        return list(self._parameters.parameters())

    @property
    def signs(self) -> tuple[float, ...]:
        """The sides of a direction that have a twin."""
        return (1.0, -1.0) if self.params.antithetic else (1.0,)

    def twins(self) -> list[Twin]:
        """Return the twins, of each direction one per sign; they are made once."""
        if not self._twins:
            count = self.params.directions * len(self.signs)
            self._twins = [Twin(self._learner, self._parameters, self._make) for _ in range(count)]
        return self._twins

    def renew(self) -> None:
        """Leave a group unfinished and make new twins for the next one: there are other architecture parameters."""
        self.began, self._twins = None, []

    def rest(self) -> None:
        """Leave a group unfinished: the architecture does not learn at this step."""
        self.began = None

    def closes(self, step: int) -> bool:
        """Return whether a group may end with this step."""
        return (step + 1) % self.params.period == 0

    def begin(self, step: int) -> None:
        """Begin a group where one is due at this step."""
        if step % self.params.period:
            return
        self.began = step
        self.mu = radius(self.architecture, self.params.radius, self.params.radius_floor)
        for twin, sign, drawn in self._sides(step):
            move = [sign * self.mu * part for part in drawn]
            twin.begin(self._learner, self._parameters, self._optimizer, move)

    def follow(self, loss: LossOf, rate: float) -> None:
        """Take the weights' step with all twins of a group in progress."""
        for twin in self.twins() if self.began is not None else ():
            twin.follow(loss, rate, self.clip)

    def estimate(self, step: int, valid: Callable[[], Tensor]) -> tuple[list[Tensor], Tensor] | None:
        """Return gradients of the architecture parameters and the loss, None where no group ends with this step."""
        if self.began is None or not self.closes(step):
            return None
        began, self.began = self.began, None
        architecture, weights = self.architecture, [*self._optimizer.parameters]
        loss = valid()
        found = torch.autograd.grad(loss, [*architecture, *weights], allow_unused=True, materialize_grads=True)
        direct, slope = found[: len(architecture)], found[len(architecture) :]
        along: dict[int, float] = {}
        for number, (twin, sign, drawn) in enumerate(self._sides(began)):
            place = number // len(self.signs)
            moved = [a.detach() - b.detach() for a, b in zip(twin.optimizer.parameters, weights, strict=True)]
            along.setdefault(place, _dot(direct, drawn))
            along[place] += sign * _dot(moved, slope) / (self.mu * len(self.signs))
        total = [torch.zeros_like(values) for values in direct]
        for place, value in along.items():
            for part, drawn_part in zip(total, self._direction(began, place), strict=True):
                part += value / len(along) * drawn_part
        return total, loss.detach()

    def _sides(self, began: int) -> list[tuple[Twin, float, list[Tensor]]]:
        """Return each twin with its sign and its direction."""
        pairs = [(place, sign) for place in range(self.params.directions) for sign in self.signs]
        drawn = [self._direction(began, place) for place in range(self.params.directions)]
        return [(twin, sign, drawn[place]) for twin, (place, sign) in zip(self.twins(), pairs, strict=True)]

    def _direction(self, began: int, place: int) -> list[Tensor]:
        return direction(self.architecture, derive(self.seed, "direction", began, place))

    def snapshot(self) -> dict[str, Any]:
        """Return the state between two steps: the twins of a group in progress."""
        if self.began is None:
            return {}
        return {"began": self.began, "radius": self.mu, "twins": [twin.snapshot() for twin in self.twins()]}

    def take(self, saved: Mapping[str, Any]) -> None:
        """Take over what `snapshot` returned; ValueError, KeyError and the like where it is not of this search."""
        self.began = None
        if not saved:
            return
        for twin, state in zip(self.twins(), saved["twins"], strict=True):
            twin.take(state)
        self.began, self.mu = int(saved["began"]), float(saved["radius"])


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Return the inner product of two lists of tensors, summed in float64."""
    return float(sum((a.double() * b.double()).sum() for a, b in zip(first, second, strict=True)))
