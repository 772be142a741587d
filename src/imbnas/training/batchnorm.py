"""BatchNorm in a supernet, whose running statistics, shared by all paths, are wrong for each of them.

Training normalises with the batch's own statistics; scoring a subnet measures its statistics anew (decision 7; Guo et
al. 2020, section 3.4). If several processes share a batch, its statistics are those of all its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

T = TypeVar("T")


def batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of a model in order."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise with each batch's own statistics and leave every running buffer untouched, bit for bit."""
    layers = batchnorms(model)
    before = [(layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, (training, tracking) in zip(layers, before, strict=True):
            layer.training, layer.track_running_stats = training, tracking


@contextmanager
def untracked(model: nn.Module) -> Iterator[None]:
    """Leave every running buffer as it is while the modules stay in their modes."""
    layers = [layer for layer in batchnorms(model) if layer.training and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def averaged(model: nn.Module, batches: Iterable[T]) -> Iterator[T]:
    """Forget running statistics and yield the batches of training-mode passes that average theirs with equal weight.

    Layers in evaluation mode, as those of a held backbone are, keep theirs.

    The layers do so themselves where their momentum is None, but each then asks the GPU how many batches it has seen.
    """
    layers = [layer for layer in batchnorms(model) if layer.training]
    for layer in layers:
        layer.reset_running_stats()
    for number, batch in enumerate(batches):
        for layer in layers:
            layer.momentum = 1.0 / (number + 1)
        yield batch


Exchange = Callable[[Tensor], Tensor]


@contextmanager
def synchronised(model: nn.Module, stack: Exchange, add_up: Exchange) -> Iterator[None]:
    """Let training-mode BatchNorm normalise with the statistics of all processes' rows, as one process would.

    `stack` returns the tensors of all processes as (processes, ...), `add_up` their sum. torch's SyncBatchNorm is for
    CUDA alone; this one works everywhere, with processes that have no rows too.
    """
    layers = batchnorms(model)
    for layer in layers:
        layer.forward = partial(_synchronised, layer, stack, add_up)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _synchronised(
    layer: _BatchNorm, stack: Exchange, add_up: Exchange, x: Tensor, scale: Tensor | None = None
) -> Tensor:
    """Return what the layer would return for the whole batch; `scale` as in the DARTS space's `ScaledNorm`."""
    if not layer.training:
        return type(layer).forward(layer, x, *(() if scale is None else (scale,)))
    weight: Tensor | None = layer.weight if scale is None else scale.expand(layer.num_features)
    bias: Tensor | None = layer.bias
    channels = x.shape[1]
    if channels < layer.num_features and weight is not None and bias is not None:
        # An elastic layer: its first channels normalise an input of fewer.
        weight, bias = weight[:channels], bias[:channels]
    y, mean, variance, count = _Normalise.apply(x, weight, bias, layer.eps, stack, add_up)
    if layer.track_running_stats and layer.running_mean is not None and layer.running_var is not None:
        assert layer.num_batches_tracked is not None
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            share = 1.0 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            layer.running_mean[:channels].lerp_(mean.to(layer.running_mean.dtype), share)
            layer.running_var[:channels].lerp_((variance * (count / (count - 1))).to(layer.running_var.dtype), share)
    result: Tensor = y
    return result


class _Normalise(torch.autograd.Function):
    """Batch normalisation (Ioffe and Szegedy 2015) over the rows of all processes, forward and backward.

    The loss is one number that all processes know, of which each has the gradient for its own rows.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, stack: Exchange, add_up: Exchange
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [0, *range(2, x.ndim)]
        wide = x if x.dtype == torch.float64 else x.float()
        here = x.numel() // x.shape[1]
        if here:
            variance, mean = torch.var_mean(wide, dims, correction=0)
        else:
            variance = mean = wide.new_zeros(x.shape[1])
        everywhere = stack(torch.cat([mean, variance, wide.new_full((1,), here)]))
        means, variances, counts = everywhere.split([len(mean), len(mean), 1], dim=1)
        shares = counts / counts.sum()
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        inverse = (variance + eps).rsqrt()
        factor = inverse if weight is None else inverse * weight
        offset = -mean * factor if bias is None else bias - mean * factor
        ctx.save_for_backward(x, weight, mean, inverse, counts.sum())
        ctx.add_up = add_up
        ctx.mark_non_differentiable(mean, variance)
        y = torch.addcmul(_wide(offset, x), wide, _wide(factor, x)).to(x.dtype)
        return y, mean, variance, counts.sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        dims = [0, *range(2, x.ndim)]
        wide, slope = x.to(mean.dtype), gradient.to(mean.dtype)
        total = slope.sum(dims)
        along = (slope * (wide - _wide(mean, x))).sum(dims) * inverse
        mean_total, mean_along = (ctx.add_up(torch.cat([total, along])) / count).chunk(2)
        factor = inverse if weight is None else inverse * weight
        # dx = factor (dy - mean(dy) - x^ mean(dy x^)) with x^ = (x - mean) inverse.
        tilt = -factor * inverse * mean_along
        offset = -factor * mean_total - tilt * mean
        dx = torch.addcmul(torch.addcmul(_wide(offset, x), slope, _wide(factor, x)), wide, _wide(tilt, x))
        needs = ctx.needs_input_grad
        return dx.to(x.dtype), along if needs[1] else None, total if needs[2] else None, None, None, None


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """Return one value a channel, (C,), as something to be multiplied with (N, C, ...)."""
    return values.view(1, -1, *(1,) * (like.ndim - 2))
