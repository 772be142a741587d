"""A step whose passes are taken in one: the same work in each step, with who feeds whom in tensors on the device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from imbnas.seeds import derive
from imbnas.training.definition import Loss, Together, Training
from imbnas.training.optimizer import Optimizer
from imbnas.training.runtime import Runtime, drawing


class OnePass:
    """The step of a training with all its passes in one; `routes` stay where a recorded step reads them."""

    def __init__(self, together: Together, runtime: Runtime) -> None:
        self.together, self.runtime = together, runtime
        self.routes: Any = None

    def route(self, passes: Sequence[tuple[Any, ...]]) -> None:
        """Take over which passes the next step has."""
        found = self.together.routes(passes, self.runtime.device)
        if self.routes is None:
            self.routes = found
            return
        for place, value in zip(self.routes, found, strict=True):
            place.copy_(value)

    def learn(
        self, training: Training, optimizer: Optimizer, loss_of: Loss, done: int, count: int, own: Tensor, target: Any
    ) -> Tensor:
        """Move the weights by the gradients of all `count` passes over a batch; return their mean loss.

        `done` is the number of steps before this one, from which the loss's random draws follow.
        """
        optimizer.zero_grad()
        outputs = self.runtime.forward(partial(self.together.outputs, training.model), own, self.routes)
        losses = []
        for number, part in enumerate(outputs.chunk(count)):
            with drawing(derive(training.seed, training.name, "loss", done, number)):
                losses.append(loss_of(part, target))
        total = torch.stack(losses).sum()
        total.backward()
        if training.recipe.optimizer.clip:
            optimizer.clip(training.recipe.optimizer.clip)
        with self.together.unmoved(training.model, self.routes, getattr(optimizer, "state", {})):
            optimizer.step()
        return total.detach().float() / count
