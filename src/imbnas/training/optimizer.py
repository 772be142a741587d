"""Stochastic gradient descent and the learning rate's course."""

from __future__ import annotations

import math

import torch
from torch import nn

from imbnas.params.recipe import OptimizerParams, ScheduleParams


def make_optimizer(model: nn.Module, params: OptimizerParams) -> torch.optim.SGD:
    """Return SGD over the model's trainable parameters; weight decay acts on tensors of two and more dimensions.

    With `decay_norms` it acts on all of them, biases and BatchNorm's included, as torch does by default. The fused
    implementation updates all tensors in one call: a supernet has hundreds of small ones.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trainable if p.ndim > 1 or params.decay_norms]
    groups = [
        {"params": decayed, "weight_decay": params.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1 and not params.decay_norms], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=params.lr,
        momentum=params.momentum,
        nesterov=params.nesterov,
        fused=True,
    )
    if params.momentum:
        # Fused SGD fails where some tensors of a step have a buffer and others, of a path not taken before, have none.
        for parameter in trainable:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def rate_factor(schedule: ScheduleParams, step: int, steps: int) -> float:
    """Return the factor on the peak learning rate for the 0-based optimiser step `step` of `steps`.

    Linear warm-up reaches the peak at the first step after it; cosine falls to zero over the rest (Loshchilov and
    Hutter 2017); `step` multiplies by gamma at each milestone, a fraction of all steps.
    """
    warmup = math.ceil(schedule.warmup * steps - 1e-9)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.name == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    if schedule.name == "step":
        passed = sum(step >= math.ceil(milestone * steps - 1e-9) for milestone in schedule.milestones)
        return float(schedule.gamma**passed)
    return 1.0


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
