"""A convolution in 8 bits under an approximate multiplier, with the gradient of the exact one."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.approximate.emulation import Geometry, Multiplier
from imbnas.approximate.quantisation import Quantised, quantise


class ApproximateConv2d(nn.Conv2d):
    """A convolution of the same parameters as the one that it takes the place of; its state has the same names.

    Padding is 0 and takes part: a multiplier whose product with 0 is not 0 adds there, too.
    """

    multiplier: Multiplier
    """It may be that of other convolutions too; it has no state."""

    emulates = True
    """False: an ordinary convolution, for whoever counts operations."""

    @classmethod
    def of(cls, conv: nn.Conv2d, multiplier: Multiplier) -> Self:
        """Return a convolution with the parameters, not copies, of another one."""
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise TypeError(f"found padding {conv.padding} ({conv.padding_mode}), expected zeros and their number")
        made = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            bias=False,
            device="meta",
        )
        made.weight, made.bias = conv.weight, conv.bias
        made.multiplier = multiplier
        made.training = conv.training
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) in float32, whatever the run's precision is."""
        if not self.emulates:
            return super().forward(x)
        high, wide = _pair(self.padding)
        geometry = Geometry(_pair(self.stride), _pair(self.dilation), self.groups)
        with torch.autocast(x.device.type, enabled=False):
            padded = F.pad(x.float(), (wide, wide, high, high)) if high or wide else x.float()
            y = approximate_conv2d(padded, self.weight.float(), self.multiplier, geometry)
            return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)


def _pair(given: Any) -> tuple[int, int]:
    return int(given[0]), int(given[1])


def approximate_conv2d(x: Tensor, kernel: Tensor, multiplier: Multiplier, geometry: Geometry) -> Tensor:
    """Return the convolution of a padded input (N, C, H, W).

    Both are quantised, products come from the multiplier, sums are exact, and the result has the scale of both. Its
    gradient is that of an exact convolution of the quantised values, handed straight through the quantisation.
    """
    signed = multiplier.table.signed
    inputs, weights = quantise(x, signed, per_image=True), quantise(kernel, signed, per_image=False)
    if torch.is_grad_enabled() and (inputs.values.requires_grad or weights.values.requires_grad):
        found: Tensor = _Convolution.apply(inputs.values, weights.values, inputs[1:], weights[1:], multiplier, geometry)
        return found
    return _scaled(inputs, weights, multiplier, geometry)


def _scaled(inputs: Quantised, weights: Quantised, multiplier: Multiplier, geometry: Geometry) -> Tensor:
    sums = multiplier.sums(inputs, weights, geometry)
    return (sums * (inputs.scale * weights.scale)).to(inputs.scale.dtype)


class _Convolution(torch.autograd.Function):
    """Forward approximate, backward exact; it can be differentiated twice, as second-order DARTS needs."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel: Tensor,
        inputs: tuple[Tensor, Tensor, Tensor],
        weights: tuple[Tensor, Tensor, Tensor],
        multiplier: Multiplier,
        geometry: Geometry,
    ) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.geometry = geometry
        return _scaled(Quantised(x, *inputs), Quantised(kernel, *weights), multiplier, geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        along_x, along_kernel, _ = torch.ops.aten.convolution_backward(
            gradient,
            x,
            kernel,
            None,
            geometry.stride,
            (0, 0),
            geometry.dilation,
            False,
            (0, 0),
            geometry.groups,
            (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False),
        )
        return along_x, along_kernel, None, None, None, None
