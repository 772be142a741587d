"""The CIFAR ResNets: published size, shortcuts without parameters, networks without a last convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from space_list import CHAINS
from torch import nn

from imbnas.params.space_options import MobileChoices, ShuffleChoices, SpaceParams, Stages, Stem
from imbnas.spaces.blocks import BasicBlock
from imbnas.spaces.constraints import feasible, largest, sample_feasible, smallest
from imbnas.spaces.cost import Cost
from imbnas.spaces.limits import Limits
from imbnas.spaces.registry import make_space

RESNET32 = make_space(SpaceParams(name="resnet", stages=Stages(repeats=[5, 5, 5]), last_channels=None))
ZEROS = (0,) * 15


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_resnet32_has_the_published_size():
    # Stem; ten 3x3 convolutions a stage, the first of the second and third one narrower; BatchNorm's two vectors for
    # each of 31 convolutions; the head. Shortcuts hold nothing.
    stem = 27 * 16 + 2 * 16
    stages = sum(
        9 * (before * width + 9 * width * width) + 10 * 2 * width for before, width in ((16, 16), (16, 32), (32, 64))
    )
    assert stem + stages + 64 * 10 + 10 == 464_154
    cost = RESNET32.cost(ZEROS, (32, 32, 3), 10)
    assert cost.params == 464_154
    # A 3x3 convolution costs 9 x inputs x outputs a pixel; pixels fall by four where channels double.
    pixels = {16: 32 * 32, 32: 16 * 16, 64: 8 * 8}
    macs = pixels[16] * 27 * 16 + 640
    macs += sum(pixels[w] * 9 * (before * w + 9 * w * w) for before, w in ((16, 16), (16, 32), (32, 64)))
    assert cost.macs == macs == 68_862_592
    assert RESNET32.cost(ZEROS, (32, 32, 3), 100).params == 464_154 + 90 * 65
    network = RESNET32.build_subnet(ZEROS, 10, 3)
    assert sum(p.numel() for p in network.parameters()) == 464_154
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) + 1 == 32
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_the_space_holds_one_architecture():
    assert RESNET32.size == 1
    assert list(RESNET32.enumerate()) == [ZEROS] == [RESNET32.sample(np.random.default_rng(0))]
    assert RESNET32.describe(ZEROS)[5] == "stage 2 block 1: basic, stride 2, 16 -> 32"
    table = RESNET32.cost_table((32, 32, 3), 10)
    assert smallest(table) == largest(table, Limits()) == feasible(table, Limits(max_params=464_154)) == ZEROS
    assert sample_feasible(RESNET32, table, np.random.default_rng(0), Limits()) == ZEROS


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 8, 2), (4, 4, 2), (4, 9, 1), (3, 8, 2)])
@pytest.mark.parametrize("side", [8, 7])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_shortcut_takes_every_other_pixel_and_surrounds_with_zeros(inputs, outputs, stride, side, layout):
    torch.manual_seed(0)
    block = BasicBlock(inputs, outputs, stride).eval().to(memory_format=layout)
    x = torch.randn(2, inputs, side, side).contiguous(memory_format=layout)
    shortcut = torch.zeros(2, outputs, (side + stride - 1) // stride, (side + stride - 1) // stride)
    first = (outputs - inputs) // 2
    shortcut[:, first : first + inputs] = x[:, :, ::stride, ::stride]
    y = block(x)
    assert torch.equal(y, F.relu(block.branch(x) + shortcut))
    assert y.is_contiguous(memory_format=layout)
    nn.init.zeros_(block.branch[-1].weight)
    assert torch.equal(block(x), shortcut.clamp_min(0))


def test_the_stages_may_widen_without_a_stride_and_end_in_a_convolution():
    stages = Stages(channels=[12, 21], repeats=[1, 2], strides=[1, 1])
    space = make_space(SpaceParams(name="resnet", stem=Stem(channels=12, stride=2), stages=stages, last_channels=20))
    network = space.build_subnet((0, 0, 0), 5, 1)
    assert network(torch.randn(2, 1, 9, 9)).shape == (2, 5)
    assert network.features(torch.randn(2, 1, 9, 9)).shape == (2, 20)
    assert space.num_features == 20


@pytest.mark.parametrize("name", CHAINS)
def test_without_a_last_convolution_the_head_sees_the_last_stage(name):
    space, wide = (make_space(SpaceParams(name=name, last_channels=width)) for width in (None, 96))
    architecture = (0,) * 6
    network = space.build_subnet(architecture, 10, 1)
    assert isinstance(network.last, nn.Identity)
    assert space.num_features == network.head.in_features == 64
    assert not any(key.startswith("last.") for key in network.state_dict())
    supernet = space.build_supernet(10, 1)
    network.load_state_dict(space.subnet_state(supernet.state_dict(), architecture))
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(network(x), supernet(x, architecture))
    with_last, without = (s.cost(architecture, (8, 8, 1), 10) for s in (wide, space))
    # 64 -> 96 on 2x2 pixels with BatchNorm, and 32 more features for each of ten classes.
    assert Cost(with_last.macs - without.macs, with_last.params - without.params) == Cost(
        4 * 64 * 96 + 320, 64 * 96 + 2 * 96 + 320
    )


@pytest.mark.parametrize(
    ("params", "single"),
    [
        (SpaceParams(), False),
        (SpaceParams(shufflenet=ShuffleChoices(choices=["xception"])), True),
        (SpaceParams(name="mobile", mobile=MobileChoices(kernels=[3], expansions=[6], skip=False)), True),
        (SpaceParams(name="mobile", mobile=MobileChoices(kernels=[3], expansions=[6], skip=True)), False),
        (SpaceParams(name="mobile", mobile=MobileChoices(kernels=[3], skip=False)), False),
        (SpaceParams(name="resnet"), True),
    ],
)
def test_the_parameters_know_whether_there_is_a_choice(params, single):
    assert params.single is single
    assert (make_space(params).size == 1) is single
