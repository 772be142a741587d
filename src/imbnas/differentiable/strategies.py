"""Strategies by name: ways to find the gradient of the architecture parameters, and times within the weights' steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from imbnas.differentiable.bilevel import GRADIENTS, ArchitectureGradient, Levels
from imbnas.differentiable.zeroth import LossOf, ZerothOrder
from imbnas.params.differentiable import DartsParams
from imbnas.training.optimizer import SGD, make_optimizer

Estimate = tuple[list[Tensor], Tensor]
"""The architecture parameters' gradients, and the loss on the architecture's batch."""


@dataclass(frozen=True)
class Start:
    """The parts that make a strategy: parameters, learner, architecture parameters, the weights' optimiser, a seed."""

    params: DartsParams
    learner: nn.Module
    parameters: nn.Module
    optimizer: SGD | None
    seed: int


class Strategy(ABC):
    """One search's way to the gradient. Its state between two steps is saved with the search's."""

    stride = 1
    """Of so many steps one needs rows of the architecture, the last of them."""

    def needs_rows(self, step: int) -> bool:
        """Return whether a step at which the architecture learns needs rows of the architecture."""
        return (step + 1) % self.stride == 0

    @abstractmethod
    def before(self, step: int, levels: Levels) -> Estimate | None:
        """Return an estimate ahead of the weights' step, None for no step of the architecture."""

    @abstractmethod
    def after(self, step: int, levels: Levels, loss_of: LossOf) -> Estimate | None:
        """Return one after it; `loss_of` is the weights' loss for another learner and architecture."""

    def rest(self) -> None:  # noqa: B027
        """Note that the architecture does not learn at this step."""

    def snapshot(self) -> dict[str, Any]:
        """Return the state between two steps."""
        return {}

    def take(self, saved: Mapping[str, Any]) -> None:
        """Take over what `snapshot` returned; ValueError, KeyError and the like where it is not of this search."""
        if saved:
            raise ValueError(f"a state of {', '.join(saved)}, expected none")


class AheadStrategy(Strategy):
    """A gradient at each step, ahead of the weights'."""

    def __init__(self, gradient: ArchitectureGradient) -> None:
        self._gradient = gradient

    def before(self, step: int, levels: Levels) -> Estimate | None:
        """Return the gradient."""
        return self._gradient(levels)

    def after(self, step: int, levels: Levels, loss_of: LossOf) -> Estimate | None:
        """Return None."""
        return None


class ZerothStrategy(Strategy):
    """An estimate after each group of steps, from twins that take them too."""

    def __init__(self, start: Start) -> None:
        """Prepare; twins are made when the first group begins."""
        params, optimizer = start.params, start.optimizer
        if optimizer is None:
            raise ValueError("the zeroth order needs weights that learn")
        self.order = ZerothOrder(
            params.zeroth,
            start.learner,
            start.parameters,
            optimizer,
            lambda learner: make_optimizer(learner, params.optimizer),
            params.optimizer.clip,
            start.seed,
        )
        self.stride = params.zeroth.period

    def before(self, step: int, levels: Levels) -> Estimate | None:
        """Begin a group where one is due."""
        self.order.begin(step)
        return None

    def after(self, step: int, levels: Levels, loss_of: LossOf) -> Estimate | None:
        """Take the weights' step with the twins; return an estimate where a group ends."""
        self.order.follow(loss_of, levels.rate)
        return self.order.estimate(step, levels.valid)

    def rest(self) -> None:
        """Leave a group in progress unfinished."""
        self.order.rest()

    def snapshot(self) -> dict[str, Any]:
        """Return the twins of a group in progress."""
        return self.order.snapshot()

    def take(self, saved: Mapping[str, Any]) -> None:
        """Take them over."""
        self.order.take(saved)


STRATEGIES: dict[str, Callable[[Start], Strategy]] = {
    "first": lambda start: AheadStrategy(GRADIENTS["first"]),
    "second": lambda start: AheadStrategy(GRADIENTS["second"]),
    "zeroth": ZerothStrategy,
}
"""What each `search.darts.order` means."""
