"""CUDA graphs: work that repeats is recorded once and then played back, hundreds of kernels in one call.

A small network's step takes a GPU less time than Python needs to ask for it, kernel by kernel. Played back, the same
kernels run in the same order on other values: bits do not change (docs/decisions/0017). Where one network is trained, a
whole optimiser step is recorded; a supernet takes another path at each step, but a path is put together of parts that
come again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from imbnas.training.fetching import beside
from imbnas.training.graph_memory import OTHERS, CapturePool, room_for_step

Step = Callable[[Tensor, Any], Tensor]
"""From inputs and a target, a tensor or a named tuple of tensors, to a loss on the device."""

EAGER = 3
"""Eager runs before a step is recorded, so that rare shapes are never recorded."""
KEPT = 2
"""Steps held recorded at once: that of a whole batch and that of an epoch's last, shorter one."""


class GraphedStep:
    """Takes steps, and plays those back that come again."""

    def __init__(self) -> None:
        """Begin without any recording."""
        self._full = False
        self._seen: Counter[Hashable] = Counter()
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()

    def __call__(self, key: Hashable, step: Step, inputs: Tensor, target: Any) -> Tensor:
        """Take one step and return its loss, which is valid until the next one.

        What `step` asks the device for must be a function of `key` and of the shapes of inputs and target alone; what
        it computes on the processor is not computed again.
        """
        whole = (key, *((part.shape, part.dtype) for part in (inputs, *_tensors(target))))
        found = self._recordings.get(whole)
        if found is None:
            self._seen[whole] += 1
            if self._full or self._seen[whole] <= EAGER:
                loss = step(inputs, target)
                self._full = self._full or draws_beside_others(inputs.device)
                return loss
            if not room_for_step():
                self._full = True
                return step(inputs, target)
            found = self._recordings[whole] = _Recording(step, inputs, target)
            self._seen.clear()
            while len(self._recordings) > KEPT:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(whole)
        return found.replay(inputs, target)


def draws_beside_others(device: torch.device) -> bool:
    """Return whether a training beside others has drawn on the device since its generators were seeded for this step.

    Recordings read seeds from one place in memory, where each training would overwrite those of the others.
    """
    return beside(device) and torch.cuda.default_generators[torch.cuda.current_device()].get_offset() != 0


class _Recording:
    """One recorded step and the memory that it reads and writes."""

    def __init__(self, step: Step, inputs: Tensor, target: Any) -> None:
        """Record; nothing is computed yet."""
        self._inputs = inputs.clone()
        self._target = [part.clone() for part in _tensors(target)]
        self._graph = torch.cuda.CUDAGraph()
        # A training beside others is recorded on its own stream: torch would take one for all, and the working memory
        # of cuBLAS, which a stream has, would be that of several recordings that are played back at once.
        own = torch.cuda.current_stream() if beside(inputs.device) else None
        with torch.cuda.graph(self._graph, stream=own, capture_error_mode=OTHERS):
            self._loss = step(
                self._inputs, self._target[0] if isinstance(target, Tensor) else type(target)(*self._target)
            )

    def replay(self, inputs: Tensor, target: Any) -> Tensor:
        """Compute the step for other values and return its loss, which the next one overwrites."""
        self._inputs.copy_(inputs)
        for place, part in zip(self._target, _tensors(target), strict=True):
            place.copy_(part)
        self._graph.replay()
        return self._loss


def _tensors(target: Any) -> tuple[Tensor, ...]:
    return (target,) if isinstance(target, Tensor) else tuple(target)


@contextmanager
def recorded_parts(model: nn.Module) -> Iterator[None]:
    """Let the parts of the networks in `model` that have `capturable_modules` be played back, forward and backward.

    It returns modules with parameters and the names of their methods, each from one tensor to another; a pass calls a
    part at most once. Between two calls of a part its output must have had its use, the backward pass included: the
    second one overwrites it. So are gradients by the part's next backward pass after they were dropped.
    """
    networks = [module for module in model.modules() if hasattr(module, "capturable_modules")]
    found = [pair for network in networks for pair in network.capturable_modules()]  # type: ignore[operator]
    pool = CapturePool()
    for module, name in found:
        setattr(module, name, _Part(module, getattr(module, name), pool))
    try:
        yield
    finally:
        for module, name in found:
            delattr(module, name)


class _Part:
    """Stands for a method of a module and plays it back when it has come often enough."""

    def __init__(self, module: nn.Module, call: Callable[[Tensor], Tensor], pool: CapturePool) -> None:
        self._module, self._call, self._pool = module, call, pool
        self._learns = any(p.requires_grad for p in module.parameters())
        self._seen: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _PartRecording] = {}

    def __call__(self, x: Tensor) -> Tensor:
        learning = torch.is_grad_enabled()
        if learning and not self._learns:
            return self._call(x)
        key = x.shape, x.stride(), x.dtype, x.requires_grad, learning, self._module.training
        found = self._recordings.get(key)
        if found is None:
            self._seen[key] += 1
            if self._seen[key] <= EAGER or not self._pool.has_room():
                return self._call(x)
            found = self._recordings[key] = _PartRecording(self._module, self._call, self._pool, x)
        if not learning:
            return found.forward(x)
        y: Tensor = _Played.apply(self._pool.anchor, x, found)
        return y


class _PartRecording:
    """A part recorded for inputs of one shape."""

    def __init__(self, module: nn.Module, call: Callable[[Tensor], Tensor], pool: CapturePool, x: Tensor) -> None:
        """Record both passes; nothing is computed yet."""
        self._x = x.detach().clone().requires_grad_(x.requires_grad)
        with _aliases(module) as (self._learned, aliases), pool.recording() as self._forward:
            y = call(self._x)
        self._y = y.detach()
        if not torch.is_grad_enabled():
            return
        self._slope = torch.empty_like(self._y)
        wanted = [self._x, *aliases] if x.requires_grad else aliases
        self._gradients = [torch.zeros_like(p) for p in self._learned]
        with pool.recording(self._forward.pool()) as self._backward:
            found = list(torch.autograd.grad(y, wanted, self._slope))
            self._x_gradient = found.pop(0) if x.requires_grad else None
            torch._foreach_copy_(self._gradients, found)

    def forward(self, x: Tensor) -> Tensor:
        """Return the part's output for `x`."""
        self._x.detach().copy_(x)
        self._forward.replay()
        return self._y.detach()

    def backward(self, slope: Tensor) -> Tensor | None:
        """Return the gradient of the input from that of the output, and add those of the parameters to theirs."""
        self._slope.copy_(slope)
        first = self._learned[0].grad
        if first is None:
            self._backward.replay()
            for parameter, gradient in zip(self._learned, self._gradients, strict=True):
                parameter.grad = gradient
            return self._x_gradient
        # Not the first pass of this step: by this recording before, or by an ordinary pass.
        before = [p.grad for p in self._learned if p.grad is not None]
        if first is self._gradients[0]:
            before = [gradient.clone() for gradient in before]
        self._backward.replay()
        torch._foreach_add_(self._gradients, before)
        for parameter, gradient in zip(self._learned, self._gradients, strict=True):
            parameter.grad = gradient
        return self._x_gradient


@contextmanager
def _aliases(module: nn.Module) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Put other tensors of the same memory in place of the parameters that learn; yield parameters and aliases.

    A parameter's gradient belongs to the stream of the last ordinary pass through it, which a recording must not touch.
    """
    found = [
        (owner, name, parameter)
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if parameter.requires_grad
    ]
    aliases = [parameter.detach().requires_grad_() for _, _, parameter in found]
    for (owner, name, _), alias in zip(found, aliases, strict=True):
        owner._parameters[name] = alias  # type: ignore[assignment]
    try:
        yield [parameter for _, _, parameter in found], aliases
    finally:
        for owner, name, parameter in found:
            owner._parameters[name] = parameter


class _Played(torch.autograd.Function):
    """A recorded part in a pass with gradients."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, x: Tensor, recording: _PartRecording) -> Tensor:
        ctx.recording = recording
        return recording.forward(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[None, Tensor | None, None]:
        return None, ctx.recording.backward(slope), None
