"""Implants: zero at first, canonical forms, exact costs, adapters of a given size, and a backbone that is held."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from imbnas.errors import UserError
from imbnas.params.space_options import ImplantChoices, SpaceParams, Stages, Stem
from imbnas.spaces.constraints import Limits, feasible, largest, minimum, sample_feasible
from imbnas.spaces.cost import Cost, count
from imbnas.spaces.equal_cost import window_sampler
from imbnas.spaces.implant_kinds import AdapterImplants, adapter_parameters, adapter_widths
from imbnas.spaces.implanted import hold_backbone
from imbnas.spaces.most_parameters import most_parameters
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace

IMAGE = (8, 8, 1)


def make(kind: str = "cells", budget: int = 1500, stages: int = 2) -> SearchSpace:
    layout = Stages(channels=[4, 8, 8][:stages], repeats=[1, 2, 1][:stages], strides=[1, 2, 1][:stages])
    implant = ImplantChoices(kind=kind, budget=budget)  # type: ignore[arg-type]
    return make_space(
        SpaceParams(name="implant", stem=Stem(channels=4), stages=layout, last_channels=None, implant=implant)
    )


CELLS, ADAPTERS = make(), make("adapters")
CONVOLUTIONS, SKIP, EMPTY = (3, 3, 3, 3, 3, 3), (0, 0, 0, 1, 0, 0), (0,) * 6


def trained_backbone(space: SearchSpace) -> nn.Module:
    """Return a supernet whose BatchNorms are those of no new network, and whose implants are new."""
    torch.manual_seed(3)
    supernet = space.build_supernet(10, 1)
    with torch.no_grad():
        for name, module in supernet.named_modules():
            if isinstance(module, nn.BatchNorm2d) and "implant" not in name:
                module.running_mean.normal_(0.0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return supernet


@pytest.mark.parametrize("space", [CELLS, ADAPTERS], ids=["cells", "adapters"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_new_implants_change_no_bit_of_the_logits(space: SearchSpace, dtype: torch.dtype | None) -> None:
    supernet = trained_backbone(space)
    hold_backbone(supernet)
    supernet.train()
    x, rng = torch.randn(5, 1, 8, 8), np.random.default_rng(0)
    full = tuple(len(block.choices) - 1 for block in space.blocks)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
        alone = supernet(x, space.source_path)
        for architecture in (full, *(space.sample(rng) for _ in range(3))):
            assert torch.equal(supernet(x, architecture), alone)
        # A gate that is not zero shows that the implants are there.
        for name, parameter in supernet.named_parameters():
            if name.endswith("gate.weight"):
                parameter.fill_(0.5)
        assert not torch.equal(supernet(x, full), alone)


def test_the_backbone_alone_is_the_resnet_of_the_space_resnet() -> None:
    layout = Stages(channels=[4, 8], repeats=[1, 2], strides=[1, 2])
    resnet = make_space(SpaceParams(name="resnet", stem=Stem(channels=4), stages=layout, last_channels=None))
    supernet = trained_backbone(CELLS).eval()
    plain = resnet.build_subnet((0, 0, 0), 10, 1).eval()
    path = CELLS.subnet_state(supernet.state_dict(), EMPTY + EMPTY)
    plain.load_state_dict({name.replace(".block.", "."): value for name, value in path.items()})
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(plain(x), supernet(x, EMPTY + EMPTY))
    assert resnet.cost((0, 0, 0), IMAGE, 10) == CELLS.cost(EMPTY + EMPTY, IMAGE, 10)


def test_canonical_forms_are_those_of_each_stages_cell() -> None:
    # Edge 0 -> 1 leads to a node that goes nowhere; the second cell has no way through at all.
    given = (3, 0, 0, 1, 0, 0, 3, 3, 3, 0, 0, 0)
    assert CELLS.canonical(given) == SKIP + EMPTY
    assert CELLS.connected(given)
    assert CELLS.accept(list(given)) == SKIP + EMPTY
    assert CELLS.size == 9445**2
    rng = np.random.default_rng(1)
    drawn = [CELLS.sample(rng) for _ in range(200)]
    assert all(CELLS.is_one(architecture) for architecture in drawn)
    assert all(CELLS.is_one(CELLS.mutate(architecture, rng, 0.2)) for architecture in drawn[:50])
    assert all(CELLS.is_one(CELLS.crossover(*pair, rng)) for pair in pairwise(drawn))
    assert len(list(make(stages=1).enumerate())) == 9445
    assert list(ADAPTERS.enumerate()) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [make_space(SpaceParams(name="implant")).choices, ADAPTERS.choices] == [(5,) * 18, (2, 2)]


@pytest.mark.parametrize("space", [CELLS, ADAPTERS], ids=["cells", "adapters"])
def test_costs_are_the_counted_networks(space: SearchSpace) -> None:
    rng = np.random.default_rng(2)
    for architecture in (*(space.sample(rng) for _ in range(6)), space.source_path):
        assert architecture is not None
        assert space.cost(architecture, IMAGE, 10) == count(space.build_subnet(architecture, 10, 1), IMAGE)


def test_what_does_not_act_costs_nothing() -> None:
    acting, backbone = (CELLS.cost(a, IMAGE, 10) for a in (SKIP + EMPTY, EMPTY + EMPTY))
    assert CELLS.cost((3, 0, 0, 1, 0, 0, 3, 3, 3, 0, 0, 0), IMAGE, 10) == acting
    # A shortcut in the cell costs its gate, one factor for each of four channels.
    assert acting == Cost(backbone.macs, backbone.params + 4)


def test_the_extremes_within_limits_are_those_of_the_list() -> None:
    space = make(stages=1)
    table, costs = space.cost_table(IMAGE, 10), {a: space.cost(a, IMAGE, 10) for a in space.enumerate()}
    assert minimum(table) == space.cost(EMPTY, IMAGE, 10)
    most = max(cost.params for cost in costs.values())
    for share in (0.6, 0.8, 1.0):
        limits = Limits(max_params=math.floor(share * most))
        within = {a: cost for a, cost in costs.items() if limits.allow(cost)}
        by_macs = min(within, key=lambda a: (-within[a].macs, within[a].params, a))
        by_params = min(within, key=lambda a: (-within[a].params, within[a].macs, a))
        assert (largest(table, limits), most_parameters(table, limits)) == (by_macs, by_params)
        assert feasible(table, limits) == EMPTY
    with pytest.raises(UserError, match=f"expected at least {minimum(table).params}"):
        feasible(table, Limits(max_params=minimum(table).params - 1))


def test_draws_within_narrow_limits_and_windows_are_architectures_of_them() -> None:
    table, rng = CELLS.cost_table(IMAGE, 10), np.random.default_rng(4)
    limits = Limits(max_params=minimum(table).params + 40)
    drawn = [sample_feasible(CELLS, table, rng, limits) for _ in range(30)]
    assert all(CELLS.is_one(a) and limits.allow(table.cost(a)) for a in drawn)
    assert len(set(drawn)) > 20, "one cost stands for many cells"
    middle = table.cost(CONVOLUTIONS + SKIP).macs
    sample = window_sampler(table, middle, middle)
    assert sample is not None
    assert {table.cost(sample(rng)).macs for _ in range(20)} == {middle}


@pytest.mark.parametrize("channels", [(4, 8), (16, 32, 64), (64, 16, 16)])
@pytest.mark.parametrize("budget", [2_000, 7_321, 60_000])
def test_adapters_have_the_parameters_they_are_given(channels: tuple[int, ...], budget: int) -> None:
    widths = adapter_widths(channels, budget)
    found = sum(adapter_parameters(c, w) for c, w in zip(channels, widths, strict=True))
    # One more channel of width costs 10 C + 2.
    step = 10 * min(channels) + 2
    if min(widths) > 1:
        assert abs(found - budget) <= step / 2
        assert abs(found - budget) <= 0.05 * budget


def test_an_adapters_parameters_are_those_of_its_network() -> None:
    assert isinstance(ADAPTERS, AdapterImplants)
    added = ADAPTERS.cost((1, 1), IMAGE, 10).params - ADAPTERS.cost((0, 0), IMAGE, 10).params
    assert added == sum(adapter_parameters(c, w) for c, w in zip((4, 8), ADAPTERS.widths, strict=True))
    assert abs(added - 1500) <= 21
    assert ADAPTERS.describe((1, 0)) == [
        f"stage 1 adapter: bottleneck of {ADAPTERS.widths[0]}",
        "stage 2 adapter: none",
    ]


def test_a_held_backbone_gets_no_gradient_and_its_statistics_stay() -> None:
    supernet = trained_backbone(CELLS)
    hold_backbone(supernet)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    supernet.train()
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if name.endswith("gate.weight"):
                parameter.fill_(0.5)
    supernet(torch.randn(6, 1, 8, 8), CONVOLUTIONS + CONVOLUTIONS).square().sum().backward()
    moved = {name for name, value in supernet.state_dict().items() if not torch.equal(value, before[name])}
    learned = {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    assert learned
    assert all(".implant." in name or name.startswith("head.") for name in learned)
    assert any(name.endswith("running_mean") for name in moved), "implants take their own statistics"
    assert all(".implant." in name for name in moved)


def test_paths_share_what_lies_before_the_first_other_stage() -> None:
    supernet = CELLS.build_supernet(10, 1).eval()
    first, second = CONVOLUTIONS + SKIP, CONVOLUTIONS + EMPTY
    # Stem, block 1 with the first implant, block 2; block 3 has the second.
    assert supernet.shared_steps(first, second) == 3
    assert supernet.shared_steps(SKIP + SKIP, EMPTY + SKIP) == 1
