"""Costs: equal to the counter on the built subnet, and to figures derived by hand and published."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from space_list import CHAINS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from imbnas.errors import UserError
from imbnas.params.space_options import SpaceParams, Stages, Stem
from imbnas.spaces.cost import Cost, count
from imbnas.spaces.registry import make_space

SPOS = make_space(
    SpaceParams(
        stem=Stem(channels=16, stride=2),
        stages=Stages(channels=[64, 160, 320, 640], repeats=[4, 4, 8, 4], strides=[2, 2, 2, 2]),
        last_channels=1024,
    )
)
IMAGENET = (224, 224, 3)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize(("image", "classes"), [((8, 8, 1), 10), ((20, 13, 3), 7)])
def test_the_table_equals_the_counter_on_the_built_subnet(name, image, classes):
    space = make_space(SpaceParams(name=name))
    rng = np.random.default_rng(0)
    for _ in range(2):
        architecture = space.sample(rng)
        subnet = space.build_subnet(architecture, classes, image[2]).eval()
        with FlopCounterMode(display=False) as counter:
            subnet(torch.zeros(1, image[2], *image[:2]))
        expected = Cost(counter.get_total_flops() // 2, sum(p.numel() for p in subnet.parameters()))
        assert counter.get_total_flops() % 2 == 0
        assert space.cost(architecture, image, classes) == expected
        assert space.cost_table(image, classes).cost(architecture) == expected


def _published_by_hand() -> Cost:
    """Add up the all-shuffle-3x3 network of the published ImageNet space, term by term."""
    side, inputs = 112, 16
    macs, params = 112 * 112 * 27 * 16, 27 * 16 + 2 * 16
    for outputs, repeats in ((64, 4), (160, 4), (320, 8), (640, 4)):
        half, small = outputs // 2, side // 2
        rest = outputs - inputs
        macs += side**2 * inputs * half + small**2 * (9 * half + half * rest)
        macs += small**2 * (9 * inputs + inputs * inputs)
        params += inputs * half + 9 * half + half * rest + 2 * (half + half + rest)
        params += 9 * inputs + inputs * inputs + 4 * inputs
        side = small
        macs += (repeats - 1) * side**2 * (2 * half * half + 9 * half)
        params += (repeats - 1) * (2 * half * half + 9 * half + 6 * half)
        inputs = outputs
    macs += side**2 * 640 * 1024 + 1024 * 1000
    params += 640 * 1024 + 2 * 1024 + 1024 * 1000 + 1000
    return Cost(macs, params)


def test_the_published_space_costs_what_a_sum_by_hand_says():
    assert SPOS.cost((0,) * 20, IMAGENET, 1000) == _published_by_hand() == Cost(295_842_496, 3_155_880)


def test_the_published_space_lies_where_the_paper_searches():
    # Guo et al. 2020 search below 330 M and sample the supernet's paths between 290 and 360 M.
    table, rng = SPOS.cost_table(IMAGENET, 1000), np.random.default_rng(0)
    costs = [table.cost(SPOS.sample(rng)) for _ in range(500)]
    low, middle, high = np.quantile([cost.macs for cost in costs], [0.05, 0.5, 0.95]) / 1e6
    assert 290 < low < middle < high < 360
    assert 315 < middle < 340
    assert 3.1e6 < min(cost.params for cost in costs) < max(cost.params for cost in costs) < 3.9e6


def test_tables_are_kept_by_image_and_classes():
    space = make_space(SpaceParams())
    table = space.cost_table((8, 8, 1), 10)
    assert space.cost_table([8, 8, 1], 10) is table
    more = space.cost_table((8, 8, 1), 13)
    assert more.blocks == table.blocks
    assert more.fixed.macs - table.fixed.macs == 3 * 128
    assert more.fixed.params - table.fixed.params == 3 * 128 + 3
    assert space.cost_table((16, 16, 1), 10).fixed.params == table.fixed.params


def test_costs_are_plain_ints_and_skip_is_free():
    space = make_space(SpaceParams(name="mobile"))
    table = space.cost_table((8, 8, 1), 10)
    assert table.blocks[0][6] == Cost(0, 0)
    cost = table.cost((6, 0, 0, 6, 0, 6))
    assert type(cost.macs) is int
    assert type(cost.params) is int
    with pytest.raises(UserError, match="choice 3"):
        space.cost((6, 0, 6, 6, 0, 6), (8, 8, 1), 10)


def test_measuring_leaves_no_trace_in_a_new_supernet():
    space = make_space(SpaceParams())
    space.cost_table((8, 8, 1), 10)
    supernet = space.build_supernet(10, 1)
    assert supernet.training
    assert not any(parameter.is_meta for parameter in supernet.state_dict().values())


def test_an_operation_that_nobody_counts_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("nchw,nchw->n", x, x)

    with pytest.raises(TypeError, match="einsum: how many operations"):
        count(Odd(), (4, 4, 1))
