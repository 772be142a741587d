"""Stochastic gradient descent and the learning rate's course."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from imbnas.params.recipe import OptimizerParams, ScheduleParams

SMALL = 2**17
"""Tensors with fewer elements are updated on one thread: waking torch's threads would take longer than the update."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread; what is done number by number has the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Optimizer(ABC):
    """The part of an optimiser that a trainer uses. `parameters` are all that it moves, in the model's order."""

    parameters: Sequence[Tensor]

    @abstractmethod
    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""

    @abstractmethod
    def step(self) -> None:
        """Move each parameter that has a gradient."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what later steps depend on, besides the weights; rates are a function of the step."""

    @abstractmethod
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take a saved state over; ValueError where it does not fit."""

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def clip(self, limit: float) -> Tensor:
        """Scale all gradients so that their common norm is at most `limit`, and return what it was.

        Of the path alone, in the model's order: the norm is a sum, whose order decides bits. They are those of
        `torch.nn.utils.clip_grad_norm_`, which sorts the tensors by device and type, too.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            return torch.zeros(())
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)))
        factor = torch.clamp(limit / (norm + 1e-6), max=1.0)
        # To look at the factor would make a GPU wait; on the processor it costs less than multiplying by one.
        if norm.is_cuda or factor != 1.0:
            torch._foreach_mul_(gradients, factor)
        return norm


class SGD(Optimizer):
    """Stochastic gradient descent by torch's fused kernel, with the attributes of `torch.optim.SGD` and its bits.

    That class itself imports torch's compiler, which takes longer than all other imports of a step together
    (docs/decisions/0015), and sorts the tensors of each step by device and type, which here are all of one.
    Each group of `param_groups` holds params, lr, weight_decay, momentum and nesterov; `state` maps a parameter to its
    momentum_buffer; `parameters` are all of them in the model's order, kept because walking through a supernet's
    modules at each step takes longer than the step.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], lr: float, momentum: float, nesterov: bool) -> None:
        """Take groups of params and weight_decay; with a momentum every parameter gets a buffer of zeros."""
        shared = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        self.param_groups: list[dict[str, Any]] = [{**shared, **group} for group in groups]
        everything = [p for group in self.param_groups for p in group["params"]]
        self.parameters: Sequence[Tensor] = everything
        # Fused SGD fails where some tensors of a step have a buffer and others, of a path not taken before, have none.
        self.state: dict[Tensor, dict[str, Tensor]] = (
            {p: {"momentum_buffer": torch.zeros_like(p)} for p in everything} if momentum else {}
        )
        # Beside each other: looking a tensor up takes longer than moving a small one.
        pairs = [
            (group, p, self.state[p]["momentum_buffer"] if momentum else None)
            for group in self.param_groups
            for p in group["params"]
        ]
        on_gpu = bool(everything) and everything[0].is_cuda
        limit = 0 if on_gpu else SMALL
        self._calls = [
            (group, small, [(p, m) for owner, p, m in pairs if owner is group and (p.numel() < limit) is small])
            for group in self.param_groups
            for small in (True, False)
        ]
        # On a GPU the rate lies there: a step that is recorded reads it anew each time it is played back.
        self._rate = torch.full((), lr, device=everything[0].device) if on_gpu else None

    def set_rate(self, rate: float) -> None:
        """Give every parameter group the learning rate `rate`."""
        if self._rate is not None and rate != self.param_groups[0]["lr"]:
            self._rate.fill_(rate)
        for group in self.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter that has a gradient."""
        for group, small, pairs in self._calls:
            moved = [(p, p.grad, buffer) for p, buffer in pairs if p.grad is not None]
            if not moved:
                continue
            parameters, gradients, buffers = zip(*moved, strict=True)
            with _one_thread() if small else nullcontext():
                torch._fused_sgd_(
                    parameters,
                    gradients,
                    buffers if self.state else (),
                    weight_decay=group["weight_decay"],
                    momentum=group["momentum"],
                    lr=group["lr"] if self._rate is None else self._rate,
                    dampening=0.0,
                    nesterov=group["nesterov"],
                    maximize=False,
                    is_first_step=False,
                )

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return the momentum buffers in the order of the parameters; rates are a function of the step."""
        return {"momentum_buffers": [entry["momentum_buffer"] for entry in self.state.values()]}

    def load_state_dict(self, saved: Mapping[str, list[Tensor]]) -> None:
        """Take buffers over; ValueError where they do not fit."""
        buffers = [entry["momentum_buffer"] for entry in self.state.values()]
        found = saved["momentum_buffers"]
        if [buffer.shape for buffer in found] != [buffer.shape for buffer in buffers]:
            raise ValueError(f"{len(found)} momentum buffers that do not fit the {len(buffers)} parameters")
        for buffer, values in zip(buffers, found, strict=True):
            buffer.copy_(values)


def make_optimizer(model: nn.Module, params: OptimizerParams) -> SGD:
    """Return SGD over the model's trainable parameters; weight decay acts on tensors of two and more dimensions.

    With `decay_norms` it acts on all of them, biases and BatchNorm's included, as torch does by default. The fused
    implementation updates many tensors in one call: a supernet has hundreds of small ones.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trainable if p.ndim > 1 or params.decay_norms]
    groups = [
        {"params": decayed, "weight_decay": params.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1 and not params.decay_norms], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]]
    optimizer = SGD(filled, lr=params.lr, momentum=params.momentum, nesterov=params.nesterov)
    optimizer.parameters = trainable
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
