"""The DARTS space: published sizes, genotypes as tuples, networks, costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from imbnas.errors import UserError
from imbnas.spaces.constraints import feasible, largest, sample_feasible
from imbnas.spaces.cost import count
from imbnas.spaces.darts import DartsSpace, Size
from imbnas.spaces.darts_auxiliary import AuxiliaryHead
from imbnas.spaces.darts_genotype import NODES, decode, edges, encode, node_choices
from imbnas.spaces.darts_network import drop_path
from imbnas.spaces.darts_ops import OPERATIONS, SKIP, Halves, ScaledNorm
from imbnas.spaces.limits import Limits
from imbnas.spaces.relaxed import Relaxed

SMALL = DartsSpace(Size(4, 4), Size(8, 5), OPERATIONS)
IMAGE = (8, 8, 1)
SEP, DIL, MAX = "sep_conv_3x3", "dil_conv_3x3", "max_pool_3x3"
V2 = (
    (
        ((0, SEP), (1, SEP)),
        ((0, SEP), (1, SEP)),
        ((0, SKIP), (1, SEP)),
        ((0, SKIP), (2, DIL)),
    ),
    (
        ((0, MAX), (1, MAX)),
        ((1, MAX), (2, SKIP)),
        ((0, MAX), (2, SKIP)),
        ((1, MAX), (2, SKIP)),
    ),
)
"""The cells that the authors of DARTS publish for their second order search."""


@pytest.mark.parametrize(("channels", "layers", "expected"), [(16, 8, 1_930_618), (8, 5, 394_210), (4, 3, 72_854)])
def test_the_search_network_has_the_published_size(channels: int, layers: int, expected: int) -> None:
    space = DartsSpace(Size(channels, layers), Size(4, 4), OPERATIONS)
    network = space.supernet_on_meta(10, 3)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_the_published_cells_have_their_published_cost() -> None:
    space = DartsSpace(Size(16, 8), Size(36, 20), OPERATIONS)
    cost = space.cost(encode(V2, OPERATIONS), (32, 32, 3), 10)
    assert cost.params == 3_349_342, "3.3 M, the README of DARTS"
    assert round(cost.macs / 1e6) == 528


def test_every_tuple_is_a_cell_and_every_cell_a_tuple() -> None:
    assert SMALL.choices == (63, 168, 322, 525) * 2
    for node in range(NODES):
        found = node_choices(node, OPERATIONS)
        assert len(set(found)) == len(found)
        for choice in (0, len(found) // 2, len(found) - 1):
            architecture = tuple(choice if place == node else 0 for place in range(2 * NODES))
            assert encode(decode(architecture, OPERATIONS), OPERATIONS) == architecture
    assert encode(decode(encode(V2, OPERATIONS), OPERATIONS), OPERATIONS) == encode(V2, OPERATIONS)
    with pytest.raises(UserError, match="normal cell node 2"):
        encode((((V2[0][0]), ((0, "none"),), *V2[0][2:]), V2[1]), OPERATIONS)
    assert (
        SMALL.describe(encode(V2, OPERATIONS))[3] == "normal cell node 4: skip_connect(input 1) + dil_conv_3x3(node 1)"
    )


def test_random_architectures_have_two_edges_a_node() -> None:
    rng = np.random.default_rng(0)
    drawn = [SMALL.sample(rng) for _ in range(300)]
    assert all(len(node) == 2 for one in drawn for cell in decode(one, OPERATIONS) for node in cell)
    assert {one[0] for one in drawn} == set(range(49)), "every pair of operations on the first node's two edges"


def test_costs_are_those_of_the_network_itself() -> None:
    rng = np.random.default_rng(1)
    for image in (IMAGE, (9, 7, 3)):
        table = SMALL.cost_table(image, 10)
        for architecture in (SMALL.sample(rng), feasible(table, Limits()), largest(table, Limits())):
            network = SMALL.build_subnet(architecture, 10, image[2]).eval()
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, image[2], image[0], image[1]))
            found = table.cost(architecture)
            assert found.macs == counter.get_total_flops() // 2
            assert found.params == sum(parameter.numel() for parameter in network.parameters())
    limit = Limits(max_macs=table.fixed.macs + 20_000)
    assert limit.allow(table.cost(sample_feasible(SMALL, table, rng, limit)))


def test_a_mixture_is_the_weighted_sum_that_its_definition_says() -> None:
    """Every edge computed on its own, without sharing: the definition, in float64."""
    torch.manual_seed(0)
    network = SMALL.build_supernet(3, 1).double().train()
    weights = {kind: torch.rand(14, 8, dtype=torch.float64) for kind in network.layout.kinds}
    cell = network.cells[1]
    assert cell.kind == "reduce"
    before = previous = torch.randn(5, 12, 8, 8, dtype=torch.float64)
    previous = torch.randn(5, 16, 8, 8, dtype=torch.float64)
    states = [cell.before(before), cell.previous(previous)]
    for node in range(NODES):
        total = torch.zeros(())
        for place, (end, source) in enumerate(edges()):
            if end != node:
                continue
            stride, x = cell.strides[place], states[source]
            for scale, name in zip(weights["reduce"][place], OPERATIONS, strict=True):
                if name == "none":
                    continue
                total = total + scale * _operation(cell, place, name, x, stride)
        states.append(total)
    expected = torch.cat(states[2:], dim=1)
    found = cell(before, previous, network.mixes(Relaxed(weights))["reduce"])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def _operation(cell: nn.Module, place: int, name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
    norm = nn.BatchNorm2d(x.shape[1], affine=False).double()
    if name == "max_pool_3x3":
        return norm(nn.functional.max_pool2d(x, 3, stride, 1))
    if name == "avg_pool_3x3":
        return norm(nn.functional.avg_pool2d(x, 3, stride, 1, count_include_pad=False))
    if name == SKIP and stride == 1:
        return x
    return norm(cell.edges[place][name].body(x.relu()))


def test_a_path_is_a_mixture_with_all_weight_on_it() -> None:
    torch.manual_seed(0)
    network = SMALL.build_supernet(3, 1).double().train()
    architecture = encode(V2, OPERATIONS)
    weights = {kind: torch.zeros(14, 8, dtype=torch.float64) for kind in network.layout.kinds}
    for kind, cell in zip(network.layout.kinds, V2, strict=True):
        for node, entries in enumerate(cell):
            for source, name in entries:
                weights[kind][edges().index((node, source)), OPERATIONS.index(name)] = 1.0
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(network(images, architecture), network(images, Relaxed(weights)), rtol=1e-8, atol=1e-8)
    assert not torch.allclose(network(images, architecture), network(images))


def test_a_scaled_norm_is_batchnorm_times_a_number() -> None:
    torch.manual_seed(0)
    x, scale = torch.randn(4, 3, 5, 5), torch.tensor(0.3, requires_grad=True)
    for momentum in (0.1, None):
        plain, scaled = nn.BatchNorm2d(3, affine=False), ScaledNorm(3)
        plain.momentum = scaled.momentum = momentum
        for _ in range(2):
            torch.testing.assert_close(scaled(x, scale), scale * plain(x))
        torch.testing.assert_close(scaled.state_dict(), plain.state_dict())
        torch.testing.assert_close(scaled.eval()(x, scale), scale * plain.eval()(x))
    assert ScaledNorm(3)(x, scale).sum().requires_grad


def test_odd_sides_are_rounded_up_everywhere() -> None:
    assert Halves(4, 6)(torch.randn(2, 4, 7, 5)).shape == (2, 6, 4, 3)
    assert SMALL.build_supernet(3, 1)(torch.randn(2, 1, 7, 7)).shape == (2, 3)
    pixels = torch.arange(16.0).view(1, 1, 4, 4)
    halves = Halves(1, 2)
    for convolution in (halves.first, halves.second):
        nn.init.ones_(convolution.weight)
    assert halves(pixels)[0].flatten(1).tolist() == [[0.0, 2.0, 8.0, 10.0], [5.0, 7.0, 13.0, 15.0]]


def test_partial_channels_bypass_the_operations() -> None:
    partial = DartsSpace(Size(8, 4), Size(8, 5), OPERATIONS, partial=4)
    full = DartsSpace(Size(8, 4), Size(8, 5), OPERATIONS)
    sizes = [
        sum(p.numel() for p in space.supernet_on_meta(3, 1).cells[1].edges.parameters()) for space in (partial, full)
    ]
    assert sizes[0] < sizes[1] / 4
    network = partial.build_supernet(3, 1)
    shares = {kind: torch.full((14,), 0.5) for kind in network.layout.kinds}
    weights = network.uniform().operations
    images = torch.randn(3, 1, 8, 8)
    assert network(images, Relaxed(weights, shares)).shape == (3, 3)
    assert not torch.allclose(network(images, Relaxed(weights, shares)), network(images))


def test_the_auxiliary_skip_is_added_on_every_edge() -> None:
    torch.manual_seed(0)
    network = SMALL.build_supernet(3, 1)
    before = sum(p.numel() for p in network.parameters())
    for cell in network.cells:
        cell.add_skips()
    assert sum(p.numel() for p in network.parameters()) - before == sum(
        8 * cell.width * cell.width for cell in network.cells if cell.kind == "reduce"
    )
    images = torch.randn(3, 1, 8, 8)
    uniform = network.uniform()
    torch.testing.assert_close(network(images, Relaxed(uniform.operations)), network(images))
    assert not torch.allclose(network(images, Relaxed(uniform.operations, skip=1.0)), network(images))


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 2, 2, 2), 0.25)
    assert sorted(set(dropped.flatten(1).mean(dim=1).tolist())) == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    network = SMALL.build_subnet(encode(V2, OPERATIONS), 3, 1)
    images = torch.randn(4, 1, 8, 8)
    for cell in network.blocks:
        cell.drop = 0.5
    assert not torch.equal(network.train()(images), network(images))
    assert torch.equal(network.eval()(images), network(images))


def test_two_branches_share_all_but_the_last_cell() -> None:
    network = SMALL.build_bilateral(encode(V2, OPERATIONS), 3, 1)
    assert (len(network.blocks), len(network.branches[1].blocks)) == (4, 1)
    assert network(torch.randn(4, 1, 8, 8), 0.3).shape == (2, 3)
    assert network.eval()(torch.randn(4, 1, 8, 8)).shape == (4, 3)
    single = SMALL.cost(encode(V2, OPERATIONS), IMAGE, 3)
    assert single.macs < count(network, IMAGE).macs < 2 * single.macs


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7, 8, 14])
def test_the_auxiliary_head_fits_every_side(side: int) -> None:
    head = AuxiliaryHead(6, side, 10)
    assert head(torch.randn(2, 6, side, side)).shape == (2, 10)
    if side == 8:
        pool = head.layers[1]
        assert (pool.kernel_size, pool.stride) == (5, 3)
