"""Adam (Kingma and Ba 2015), for trainings that stochastic gradient descent is too slow for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from imbnas.params.recipe import OptimizerParams
from imbnas.training.optimizer import Optimizer

BETAS = 0.9, 0.999
"""Decays of the mean gradient and of the mean squared one."""
EPSILON = 1e-8


class Adam(Optimizer):
    """Adam without weight decay; all parameters need a gradient at each step.

    `torch.optim.Adam` gives the same up to rounding, and imports torch's compiler (docs/decisions/0015).

    Args:
        model: its trainable parameters are moved.
        params: of which the rate is used; momentum and decay are those of SGD.
    """

    def __init__(self, model: nn.Module, params: OptimizerParams) -> None:
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._rate = params.lr
        self._steps = 0
        self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        self._rate = rate

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter by its bias-corrected mean gradient over the root of the mean squared one."""
        parameters = list(self.parameters)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        first, second = BETAS
        self._steps += 1
        torch._foreach_lerp_(self._means, gradients, 1.0 - first)
        torch._foreach_mul_(self._squares, second)
        torch._foreach_addcmul_(self._squares, gradients, gradients, 1.0 - second)
        roots = torch._foreach_sqrt(self._squares)
        torch._foreach_div_(roots, math.sqrt(1.0 - second**self._steps))
        torch._foreach_add_(roots, EPSILON)
        torch._foreach_addcdiv_(parameters, self._means, roots, -self._rate / (1.0 - first**self._steps))

    def state_dict(self) -> dict[str, Any]:
        """Return the steps that are done and both means of each parameter."""
        return {"steps": self._steps, "means": self._means, "squares": self._squares}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take steps and means over; ValueError where they do not fit."""
        own, steps = [*self._means, *self._squares], saved["steps"]
        found = [*saved["means"], *saved["squares"]]
        if type(steps) is not int or steps < 0 or [one.shape for one in found] != [one.shape for one in own]:
            raise ValueError(f"{len(found)} means of gradients that do not fit the {len(self.parameters)} parameters")
        self._steps = steps
        for kept, value in zip(own, found, strict=True):
            kept.copy_(value)
