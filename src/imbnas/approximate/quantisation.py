"""Fake quantisation to 8 bits with one scale per image and one per kernel tensor; its gradient passes straight through.

Signed codes are symmetric: x is about scale * code, code from -127 to 127. Unsigned ones are affine, as in TensorFlow's
fake quantisation: x is about scale * (code - zero), and the range always holds 0, which is a code. The ranges are those
of the tensor at hand. One scale per image, where TensorFlow's emulators have one per batch, makes an answer independent
of the other images of its batch; for a batch of one, as on a device, both are the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_SIGNED, MOST_UNSIGNED = 127, 255


class Quantised(NamedTuple):
    """A tensor in 8 bits.

    `values` is `scale * (codes - zero)`; codes are whole numbers as floats; scale and zero broadcast.
    """

    values: Tensor
    codes: Tensor
    scale: Tensor
    zero: Tensor


def quantise(x: Tensor, signed: bool, per_image: bool) -> Quantised:
    """Return a tensor (N, C, H, W) in 8 bits; the gradient of `values` is handed on to `x` as it is."""
    if torch.is_grad_enabled() and x.requires_grad:
        return Quantised(*_Straight.apply(x, signed, per_image))
    return _quantise(x, signed, per_image)


def _quantise(x: Tensor, signed: bool, per_image: bool) -> Quantised:
    dims = (1, 2, 3) if per_image else (0, 1, 2, 3)
    if signed:
        scale = _scale(x.abs().amax(dims, keepdim=True), MOST_SIGNED)
        zero = torch.zeros_like(scale)
        codes = _rounded(x, scale).clamp(-MOST_SIGNED, MOST_SIGNED)
    else:
        low, high = x.amin(dims, keepdim=True).clamp(max=0.0), x.amax(dims, keepdim=True).clamp(min=0.0)
        scale = _scale(high - low, MOST_UNSIGNED)
        zero = _rounded(-low, scale).clamp(0, MOST_UNSIGNED)
        codes = (_rounded(x, scale) + zero).clamp(0, MOST_UNSIGNED)
    return Quantised((codes - zero) * scale, codes, scale, zero)


def _scale(span: Tensor, steps: int) -> Tensor:
    """Return the step of a range; an empty one has any, and NaN stays, so that a ruined network shows."""
    step = span / steps
    return torch.where(step == 0, 1.0, step)


def _rounded(x: Tensor, scale: Tensor) -> Tensor:
    return torch.floor(x / scale + 0.5)


class _Straight(torch.autograd.Function):
    """Quantisation whose backward pass is the identity (Bengio et al. 2013), whatever range it had to clip."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, signed: bool, per_image: bool) -> Quantised:
        found = _quantise(x, signed, per_image)
        ctx.mark_non_differentiable(found.codes, found.scale, found.zero)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        return gradient, None, None
