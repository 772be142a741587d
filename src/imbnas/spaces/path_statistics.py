"""BatchNorm over stacked paths: each path has the statistics that it would have alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def path_by_path(module: nn.Module, width: int) -> Iterator[None]:
    """Let BatchNorm normalise each of `width` equal parts by its own statistics, one after the other."""

    def normalise(layer: _BatchNorm, x: Tensor) -> Tensor:
        return torch.cat([_normalised(layer, part) for part in x.chunk(width)])

    with _replaced(module, normalise):
        yield


@contextmanager
def once_for_all(module: nn.Module, width: int) -> Iterator[None]:
    """Let running statistics take the batch up `width` times: all paths would see the same."""

    def normalise(layer: _BatchNorm, x: Tensor) -> Tensor:
        y = _normalised(layer, x)
        with torch.no_grad():
            for _ in range(width - 1):
                _normalised(layer, x)
        return y

    with _replaced(module, normalise):
        yield


@contextmanager
def where_it_acts(module: nn.Module, acts: Tensor) -> Iterator[None]:
    """Leave running statistics as they are unless a mask on the device says that the module acts."""
    with _replaced(module, lambda layer, x: _normalised(layer, x, acts)):
        yield


def _normalised(layer: _BatchNorm, x: Tensor, acts: Tensor | None = None) -> Tensor:
    """Return what a BatchNorm layer does in training; its running statistics follow if `acts` says so.

    The gradient holds the statistics that the layer was given, so they are copies: several parts change the layer's own
    before any gradient is taken.
    """
    mean, variance = layer.running_mean, layer.running_var
    if not layer.track_running_stats or mean is None or variance is None:
        return F.batch_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
    assert layer.momentum is not None
    assert layer.num_batches_tracked is not None
    new = mean.clone(), variance.clone()
    y = F.batch_norm(x, *new, layer.weight, layer.bias, True, layer.momentum, layer.eps)
    with torch.no_grad():
        for buffer, value in zip((mean, variance), new, strict=True):
            buffer.copy_(value if acts is None else torch.where(acts, value, buffer))
        layer.num_batches_tracked += 1 if acts is None else acts.to(torch.int64)
    return y


@contextmanager
def _replaced(module: nn.Module, normalise: Callable[[_BatchNorm, Tensor], Tensor]) -> Iterator[None]:
    """Put a function of layer and input in place of the BatchNorm layers' forward pass in a module."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    for layer in layers:
        layer.forward = partial(normalise, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
