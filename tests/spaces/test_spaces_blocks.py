"""The candidate operations: shapes, channel order, layout, and that inputs survive."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imbnas.spaces.blocks import (
    GlobalPool,
    InvertedResidual,
    ShuffleDownUnit,
    ShuffleUnit,
    _interleave_nhwc,
    interleave_channels,
    interleaved,
    shuffle_unit,
)

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_interleave_takes_halves_in_turn_and_keeps_the_layout(layout):
    x = torch.arange(2 * 6 * 3 * 5, dtype=torch.float32).reshape(2, 6, 3, 5).contiguous(memory_format=layout)
    y = interleave_channels(x)
    assert torch.equal(y, x[:, [0, 3, 1, 4, 2, 5]])
    assert y.is_contiguous(memory_format=layout)
    assert torch.equal(_interleave_nhwc(x), y)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("first", "second"), [(2, 2), (12, 12), (16, 16), (3, 5)])
def test_two_parts_are_interleaved_as_their_join_is_with_equal_gradients(first, second, layout):
    x = torch.randn(4, 2 * first, 5, 3).contiguous(memory_format=layout).requires_grad_()
    y = torch.randn(4, second, 5, 3).contiguous(memory_format=layout).requires_grad_()
    made = []
    for join in (interleaved, lambda a, b: interleave_channels(torch.cat((a, b), dim=1))):
        joined = join(x[:, :first], y)
        slope = torch.arange(float(joined.numel())).view_as(joined)
        made.append((joined, *torch.autograd.grad(joined, (x, y), slope)))
    for new, old in zip(*made, strict=True):
        assert torch.equal(new, old)
    assert made[0][0].is_contiguous(memory_format=layout)
    assert made[0][0].stride() == made[1][0].stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 32, 40])
def test_parts_without_gradient_are_interleaved_bit_for_bit(width, dtype):
    x = torch.randn(3, 2 * width, 5, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    x[0, :4, 0, 0] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    y = torch.randn(3, width, 5, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        found, expected = interleaved(x[:, :width], y), interleave_channels(torch.cat((x[:, :width], y), dim=1))
    assert found.stride() == expected.stride()
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(found.view(bits), expected.view(bits))


def test_interleave_keeps_channels_last_away_from_the_cpu():
    x = torch.empty(2, 6, 3, 5, device="meta").contiguous(memory_format=torch.channels_last)
    assert interleave_channels(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("xception", [False, True])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "projected"),
    [
        (8, 8, 1, None),
        (8, 20, 2, 8),
        (8, 20, 1, 8),
        (8, 8, 2, 4),
        (12, 8, 1, 4),
        (12, 8, 2, 4),
    ],
)
def test_shuffle_units_of_every_shape(inputs, outputs, stride, projected, kernel, xception):
    unit = shuffle_unit(inputs, outputs, stride, kernel, xception)
    assert unit(torch.randn(2, inputs, 8, 8)).shape == (2, outputs, 8 // stride, 8 // stride)
    if projected is None:
        assert isinstance(unit, ShuffleUnit)
    else:
        assert isinstance(unit, ShuffleDownUnit)
        assert unit.projection(torch.randn(2, inputs, 8, 8)).shape[1] == projected
    kernels = {m.kernel_size[0] for m in unit.modules() if isinstance(m, nn.Conv2d)}
    assert kernels == {1, kernel}
    assert all(m.bias is None for m in unit.modules() if isinstance(m, nn.Conv2d))


def test_odd_sizes_are_halved_upwards_in_both_branches():
    assert shuffle_unit(4, 8, 2, 5)(torch.randn(2, 4, 7, 7)).shape == (2, 8, 4, 4)


def test_a_unit_that_keeps_the_shape_passes_half_of_the_channels_untouched():
    x = torch.randn(2, 8, 5, 5)
    y = shuffle_unit(8, 8, 1, 3)(x)
    assert torch.equal(y[:, 0::2], x[:, :4])
    assert not torch.equal(y[:, 1::2], x[:, 4:])


def _branch_convolutions(unit):
    return [(m.kernel_size[0], m.groups > 1, m.stride[0]) for m in unit.branch if isinstance(m, nn.Conv2d)]


def test_branches_as_published():
    assert _branch_convolutions(shuffle_unit(8, 20, 2, 5)) == [(1, False, 1), (5, True, 2), (1, False, 1)]
    assert _branch_convolutions(shuffle_unit(8, 20, 2, 3, xception=True)) == [
        (3, True, 2),
        (1, False, 1),
        (3, True, 1),
        (1, False, 1),
        (3, True, 1),
        (1, False, 1),
    ]
    names = [type(layer).__name__ for layer in shuffle_unit(8, 8, 1, 3).branch]
    assert names == ["Conv2d", "BatchNorm2d", "ReLU", "DepthwiseConv2d", "BatchNorm2d", "Conv2d", "BatchNorm2d", "ReLU"]


def test_inverted_residual_adds_its_input_only_where_the_shape_is_kept():
    x = torch.randn(2, 6, 8, 8)
    block = InvertedResidual(6, 6, 1, 5, 3)
    nn.init.zeros_(block.branch[-1].weight)
    assert torch.equal(block(x), x)
    for outputs, stride in ((6, 2), (9, 1), (9, 2)):
        block = InvertedResidual(6, outputs, stride, 5, 3)
        nn.init.zeros_(block.branch[-1].weight)
        y = block(x)
        assert y.shape == (2, outputs, 8 // stride, 8 // stride)
        assert not y.any()


def test_inverted_residual_is_linear_at_its_end_and_expands_first():
    names = [type(layer).__name__ for layer in InvertedResidual(6, 6, 1, 3, 4).branch]
    assert names == [
        "Conv2d",
        "BatchNorm2d",
        "ReLU6",
        "DepthwiseConv2d",
        "BatchNorm2d",
        "ReLU6",
        "Conv2d",
        "BatchNorm2d",
    ]
    assert InvertedResidual(6, 6, 1, 3, 4).branch[0].out_channels == 24
    assert len(InvertedResidual(6, 6, 1, 3, 1).branch) == 5


@pytest.mark.parametrize(
    "block",
    [shuffle_unit(8, 8, 1, 3), shuffle_unit(8, 16, 2, 3, xception=True), InvertedResidual(8, 8, 1, 3, 2)],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_leave_their_input_alone_and_keep_the_layout(block, layout):
    x = torch.randn(2, 8, 6, 6).contiguous(memory_format=layout)
    before = x.clone()
    y = block.to(memory_format=layout)(x)
    assert torch.equal(x, before)
    assert y.is_contiguous(memory_format=layout)


def test_global_pool_is_the_mean_of_the_pixels():
    x = torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4)
    assert GlobalPool()(x).tolist() == [[5.5, 17.5]]
