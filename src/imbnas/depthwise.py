"""Depthwise convolutions with gradients that are fast on CPUs, where torch's library has slow ones.

For NHWC on CPUs, oneDNN takes the weights' gradient of kernels of up to three columns by a depthwise kernel of its own;
for wider ones it multiplies dense blocks of 16 by 16 channels, of which the diagonal is used. In bfloat16 the inputs'
gradient at stride 2 is as slow.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLUMNS = 3
"""Columns of a kernel up to which the library is fast."""


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution of odd kernel without bias that keeps the size at stride 1; in all else nn.Conv2d.

    Its gradients in bfloat16 have the library's bits (measured on AVX512-BF16). `tiled` lets gradients of either
    precision be summed in another order, which is faster and has other bits.
    """

    tiled = False

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        """Take the channels, the width of the kernel and the stride."""
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H/stride, W/stride)."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if not self._slow(x, dtype):
            return super().forward(x)
        y: Tensor = _Depthwise.apply(x.to(dtype), self.weight.to(dtype), self.stride[0], self.tiled)
        return y

    def _slow(self, x: Tensor, dtype: torch.dtype) -> bool:
        """Return whether the library's gradients of this layer are slow and ours are wanted."""
        wide, strided = self.kernel_size[1] > COLUMNS, self.stride[0] > 1
        if dtype == torch.bfloat16:
            slow = wide or strided
        else:
            slow = dtype == torch.float32 and self.tiled and (wide or not strided)
        if not slow or x.device.type != "cpu" or not (torch.is_grad_enabled() and self.weight.requires_grad):
            return False
        return x.stride(1) == 1 and not x.is_contiguous()


def mark_tiled(model: nn.Module, tiled: bool) -> None:
    """Let the depthwise convolutions of a model sum their gradients in tiles, or not."""
    for module in model.modules():
        if isinstance(module, DepthwiseConv2d):
            module.tiled = tiled


class _Depthwise(torch.autograd.Function):
    """The convolution, whose gradients take the faster of the ways that there are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, tiled: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.tiled = stride, tiled
        return F.conv2d(x, weight, None, stride, weight.shape[3] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, tiled = ctx.stride, ctx.tiled
        slope = slope.contiguous(memory_format=torch.channels_last)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            if tiled and stride == 1:
                dx = F.conv2d(slope, weight.flip(2, 3), None, 1, weight.shape[3] // 2, groups=len(weight))
            else:
                dx = _library(slope, x, weight, stride, 0, exact=stride > 1)
        if ctx.needs_input_grad[1]:
            if tiled and weight.shape[3] > COLUMNS:
                dw = weights_by_columns(slope, x, weight, stride)
            else:
                dw = _library(slope, x, weight, stride, 1, exact=weight.shape[3] > COLUMNS)
        return dx, dw, None, None


def _library(slope: Tensor, x: Tensor, weight: Tensor, stride: int, which: int, exact: bool) -> Tensor:
    """Return the library's gradient of the input (0) or of the weights (1), of bfloat16 in float32 where `exact`.

    A product of bfloat16 numbers is exact in float32, in which the library sums them too.
    """
    dtype = torch.float32 if exact and x.dtype == torch.bfloat16 else x.dtype
    columns = weight.shape[3] // 2
    return _gradients(slope.to(dtype), x.to(dtype), weight.to(dtype), stride, columns, which).to(x.dtype)


def weights_by_columns(slope: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the weights' gradient, the middle three columns of the kernel and those beside them taken by themselves.

    The columns left of the middle see the input from `reach` pixels left of the output's place to two left of it.
    """
    reach, beside = weight.shape[3] // 2, (weight.shape[3] - COLUMNS) // 2
    sides = F.pad(x, (reach, -2)), F.pad(x, (-2, reach))
    left, right = (_columns(slope, side, weight[..., :beside], stride, 0) for side in sides)
    return torch.cat([left, _columns(slope, x, weight[..., :COLUMNS], stride, 1), right], dim=3)


def _columns(slope: Tensor, x: Tensor, part: Tensor, stride: int, padding: int) -> Tensor:
    """Return the gradient of some columns of the kernel, of which `part` has the shape."""
    like = torch.empty_like(part, memory_format=torch.contiguous_format)
    return _gradients(slope, x.contiguous(memory_format=torch.channels_last), like, stride, padding, 1)


def _gradients(slope: Tensor, x: Tensor, weight: Tensor, stride: int, columns: int, which: int) -> Tensor:
    """Return one gradient of a convolution that is padded by half of its rows and by `columns`."""
    rows, mask = weight.shape[2] // 2, [number == which for number in range(3)]
    found: Tensor = torch.ops.aten.convolution_backward(
        *(slope, x, weight, None, [stride, stride], [rows, columns], [1, 1], False, [0, 0], len(weight), mask)
    )[which]
    return found
