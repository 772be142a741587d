"""Strategies by name: ways to find the gradient of the architecture parameters, and times within the weights' steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from imbnas.differentiable.bilevel import GRADIENTS, ArchitectureGradient, Levels
from imbnas.differentiable.pruning import Pruning
from imbnas.differentiable.relaxation import ArchitectureParameters
from imbnas.differentiable.zeroth import LossOf, ZerothOrder
from imbnas.params.differentiable import DartsParams
from imbnas.spaces.relaxed import Relaxed
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
    one_level = False
    """Whether weights and architecture move together, by one gradient on the weights' rows."""

    def needs_rows(self, step: int) -> bool:
        """Return whether a step at which the architecture learns needs rows of the architecture."""
        return (step + 1) % self.stride == 0

    @abstractmethod
    def before(self, step: int, levels: Levels) -> Estimate | None:
        """Return an estimate ahead of the weights' step, None for no step of the architecture."""

    @abstractmethod
    def after(self, step: int, levels: Levels, loss_of: LossOf) -> Estimate | None:
        """Return one after it; `loss_of` is the weights' loss for another learner and architecture."""

    def penalty(self, relaxed: Relaxed) -> Tensor | float:
        """Return what one level adds to its loss."""
        return 0.0

    def close_epoch(self, *, learned: bool) -> dict[str, Any]:
        """Note that an epoch is over, in which the architecture `learned`; return what that adds to its row."""
        return {}

    def rest(self) -> None:  # noqa: B027
        """Note that the architecture does not learn at this step."""

    def renew(self) -> None:  # noqa: B027
        """Note that there are other architecture parameters than before."""

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

    def renew(self) -> None:
        """Make other twins."""
        self.order.renew()

    def snapshot(self) -> dict[str, Any]:
        """Return the twins of a group in progress."""
        return self.order.snapshot()

    def take(self, saved: Mapping[str, Any]) -> None:
        """Take them over."""
        self.order.take(saved)


class OneLevelStrategy(Strategy):
    """No level of the architecture's own (GOLD-NAS): its gradient is that of the weights' loss, and weak ones go."""

    one_level = True

    def __init__(self, start: Start) -> None:
        if start.optimizer is None:
            raise ValueError("one level needs weights that learn")
        plan = start.params.pruning
        self._pruning = Pruning(plan, cast(ArchitectureParameters, start.parameters)) if plan.per_epoch else None

    def needs_rows(self, step: int) -> bool:
        """Return False: the weights' rows are the architecture's."""
        return False

    def before(self, step: int, levels: Levels) -> Estimate | None:
        """Return None."""
        return None

    def after(self, step: int, levels: Levels, loss_of: LossOf) -> Estimate | None:
        """Return None."""
        return None

    def penalty(self, relaxed: Relaxed) -> Tensor | float:
        """Return the penalty on the number of operations, 0 where none is pruned."""
        return self._pruning.loss(relaxed) if self._pruning else 0.0

    def close_epoch(self, *, learned: bool) -> dict[str, Any]:
        """Prune."""
        return self._pruning.close_epoch(learned=learned) if self._pruning else {}

    def snapshot(self) -> dict[str, Any]:
        """Return the penalty's state."""
        return self._pruning.snapshot() if self._pruning else {}

    def take(self, saved: Mapping[str, Any]) -> None:
        """Take it over."""
        if self._pruning:
            self._pruning.take(saved)
        else:
            super().take(saved)


STRATEGIES: dict[str, Callable[[Start], Strategy]] = {
    "first": lambda start: AheadStrategy(GRADIENTS["first"]),
    "second": lambda start: AheadStrategy(GRADIENTS["second"]),
    "zeroth": ZerothStrategy,
}
"""What each `search.darts.order` means."""


def make_strategy(start: Start) -> Strategy:
    """Return what the parameters say: an order of two levels, or one level."""
    one = start.params.optimization == "one-level"
    return OneLevelStrategy(start) if one else STRATEGIES[start.params.order](start)
