"""Depthwise convolutions: where gradients have the library's bits, where they are tiled, and that tiles are right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from imbnas.depthwise import DepthwiseConv2d, mark_tiled, weights_by_columns
from imbnas.params.shared import TrainingNumerics
from imbnas.spaces.blocks import shuffle_unit
from imbnas.training.runtime import Runtime

SHAPES = [(32, 16, 7, 1), (80, 8, 5, 1), (40, 9, 5, 2), (16, 8, 3, 2), (6, 4, 7, 1)]


def gradients(layer: nn.Module, size: int, mixed: bool, layout: torch.memory_format) -> list[Tensor]:
    """Return the output and the gradients of input and weights."""
    generator = torch.Generator().manual_seed(0)
    channels = layer.weight.shape[0]
    x = torch.randn(3, channels, size, size, generator=generator).contiguous(memory_format=layout).requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        y = layer.to(memory_format=layout)(x)
    y.backward(torch.randn(y.shape, generator=generator).to(y.dtype))
    assert x.grad is not None
    return [y, x.grad, layer.weight.grad]


def library(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("channels", "size", "kernel", "stride"), SHAPES)
def test_unless_tiled_every_gradient_has_the_library_s_bits(
    channels: int, size: int, kernel: int, stride: int, mixed: bool
) -> None:
    found = gradients(DepthwiseConv2d(channels, kernel, stride), size, mixed, torch.channels_last)
    expected = gradients(library(channels, kernel, stride), size, mixed, torch.channels_last)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


@pytest.mark.parametrize(("channels", "size", "kernel", "stride"), SHAPES)
def test_tiles_make_up_the_gradients(channels: int, size: int, kernel: int, stride: int) -> None:
    layer = DepthwiseConv2d(channels, kernel, stride)
    mark_tiled(layer, True)
    found = gradients(layer, size, False, torch.channels_last)
    for one, other in zip(found, gradients(library(channels, kernel, stride), size, False, torch.channels_last)):  # noqa: B905
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.detach().abs().max()))
    assert layer.weight.grad is not None
    assert layer.weight.grad.is_contiguous()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [5, 7, 9])
def test_columns_are_exact_in_float64(kernel: int, stride: int) -> None:
    x = torch.randn(2, 3, 11, 10, dtype=torch.float64)
    layer = library(3, kernel, stride).double()
    y = layer(x)
    slope = torch.randn_like(y)
    y.backward(slope)
    found = weights_by_columns(slope, x, layer.weight.detach(), stride)
    torch.testing.assert_close(found, layer.weight.grad, rtol=1e-12, atol=1e-12)


def test_the_runtime_chooses_tiles_and_takes_them_back() -> None:
    unit = shuffle_unit(8, 8, 1, 7)
    (layer,) = (module for module in unit.modules() if isinstance(module, DepthwiseConv2d))
    for choice, tiled in ((True, False), ("tiled", True), (False, False)):
        runtime = Runtime(TrainingNumerics(device="cpu", threads=1, channels_last=choice))
        runtime.place(unit)
        assert layer.tiled is tiled
        assert runtime.layout == (torch.channels_last if choice else torch.contiguous_format)


def test_what_does_not_learn_or_lies_otherwise_is_left_to_the_library() -> None:
    layer = DepthwiseConv2d(4, 7)
    mark_tiled(layer, True)
    x = torch.randn(2, 4, 6, 6)
    assert "Depthwise" not in type(layer(x).grad_fn).__name__, "NCHW"
    x = x.contiguous(memory_format=torch.channels_last)
    assert "Depthwise" in type(layer(x).grad_fn).__name__
    layer.requires_grad_(False)
    assert layer(x).grad_fn is None
    assert "Depthwise" not in type(layer.double().requires_grad_()(x.double()).grad_fn).__name__
