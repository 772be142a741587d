"""The space of NAS-Bench-201: published costs, the published notation, the cell's arithmetic, prefixes and refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from imbnas.errors import UserError
from imbnas.params.space_options import SpaceParams, Stages
from imbnas.spaces import constraints
from imbnas.spaces.cells import Cell, ChoiceCell, Reduction
from imbnas.spaces.constraints import feasible, largest, sample_feasible, smallest
from imbnas.spaces.cost import Cost, count
from imbnas.spaces.limits import Limits
from imbnas.spaces.listed import ListedCosts
from imbnas.spaces.nasbench201 import from_string, to_string
from imbnas.spaces.paths import columns, fair_paths
from imbnas.spaces.registry import make_space

PUBLISHED = make_space(
    SpaceParams(
        name="nasbench201",
        stages=Stages(channels=[16, 32, 64], repeats=[5, 5, 5], strides=[1, 2, 2]),
        last_channels=None,
    )
)
SMALL = make_space(
    SpaceParams(
        name="nasbench201",
        stages=Stages(channels=[16, 32], repeats=[2, 1], strides=[1, 2]),
        last_channels=None,
    )
)
ALL_CONV = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
MIXED = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
EMPTY = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# What the benchmark's own code says of these cells on CIFAR-10: its counter adds the head's 10 biases to the MACs.
@pytest.mark.parametrize(
    ("text", "macs", "params"),
    [(ALL_CONV, 220_119_690, 1_531_546), (MIXED, 82_494_090, 587_386), (EMPTY, 7_783_050, 73_306)],
)
def test_costs_are_the_benchmarks(text, macs, params):
    assert PUBLISHED.cost(from_string(text), (32, 32, 3), 10) == Cost(macs - 10, params)


@pytest.mark.parametrize(("image", "classes"), [((8, 8, 1), 10), ((13, 9, 3), 7)])
def test_the_table_equals_the_counter_on_the_built_subnet(image, classes):
    rng = np.random.default_rng(0)
    for architecture in [SMALL.sample(rng) for _ in range(4)] + [(0,) * 6, (3, 0, 2, 0, 4, 1)]:
        subnet = SMALL.build_subnet(architecture, classes, image[2]).eval()
        with FlopCounterMode(display=False) as counter:
            subnet(torch.zeros(1, image[2], *image[:2]))
        expected = Cost(counter.get_total_flops() // 2, sum(p.numel() for p in subnet.parameters()))
        assert SMALL.cost(architecture, image, classes) == expected


def test_the_extremes_are_all_convolutions_and_one_skip_connection():
    table = PUBLISHED.cost_table((32, 32, 3), 10)
    assert largest(table, Limits()) == (3,) * 6
    assert smallest(table) == (0, 0, 0, 1, 0, 0)
    tight = Limits(max_macs=table.cost((0,) * 6).macs + 1)
    assert table.cost(largest(table, tight)).macs == table.cost((0,) * 6).macs
    assert largest(table, tight) == smallest(table), "the smallest tuple among those without a convolution"
    with pytest.raises(UserError, match=r"search\.max_macs: found 10, expected at least 7783040"):
        feasible(table, Limits(max_macs=10))


def test_the_published_notation():
    assert from_string(MIXED) == (3, 0, 2, 1, 4, 3)
    assert to_string((3, 0, 2, 1, 4, 3)) == MIXED
    assert PUBLISHED.describe((3, 0, 2, 1, 4, 3)) == [
        "edge 0 -> 1: nor_conv_3x3",
        "edge 0 -> 2: none",
        "edge 1 -> 2: nor_conv_1x1",
        "edge 0 -> 3: skip_connect",
        "edge 1 -> 3: avg_pool_3x3",
        "edge 2 -> 3: nor_conv_3x3",
    ]


@settings(deadline=None)
@given(architecture=st.tuples(*[st.integers(0, 4)] * 6))
def test_the_notation_is_one_to_one(architecture):
    assert from_string(to_string(architecture)) == architecture


@pytest.mark.parametrize(
    "wrong",
    ["", EMPTY[:-1], EMPTY.replace("none~2", "none~1"), EMPTY.replace("none~2", "max_pool_3x3~2"), EMPTY + "|none~3|"],
)
def test_what_is_no_cell_is_refused(wrong):
    with pytest.raises(UserError, match="not an architecture of NAS-Bench-201, expected six of none, skip_connect"):
        from_string(wrong)


def test_a_cell_computes_what_its_definition_says():
    torch.manual_seed(0)
    cell = ChoiceCell(4).eval()
    x = torch.randn(2, 4, 6, 6)
    kept = x.clone()

    def conv(edge, choice, y):
        module = cell.edges[edge][choice]
        return module.norm(F.conv2d(F.relu(y), module.conv.weight, padding=module.conv.padding))

    def pool(y):
        return F.avg_pool2d(y, 3, 1, 1, count_include_pad=False)

    first = conv(0, 3, x)
    second = x + conv(2, 2, first)
    third = pool(x) + conv(4, 3, first) + second
    assert torch.equal(cell(x, (3, 1, 2, 4, 3, 1)), third)
    with torch.no_grad():
        cell.edges[5][3].norm.bias.fill_(3.0)
    assert torch.equal(cell(x, (3, 0, 0, 4, 0, 3)), pool(x)), "a convolution of an empty node carries nothing"
    assert torch.equal(cell(x, (3, 3, 3, 0, 0, 0)), torch.zeros_like(x))
    assert torch.equal(cell(x, (0, 0, 0, 1, 0, 0)), x)
    assert torch.equal(x, kept)
    for candidates in cell.edges:
        assert all(candidate(x).shape == x.shape for candidate in candidates)
    assert not cell.edges[0][0](x).any()


def kinds(rng: np.random.Generator) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return pairs of a tuple and its canonical form, one for every set of edges that a cell may have."""
    pairs = []
    for present in itertools.product((0, 1), repeat=6):
        cell = tuple(int(there * (1 + rng.integers(4))) for there in present)
        pairs.append((cell, SMALL.canonical(cell)))
    assert sum(cell != form for cell, form in pairs) > 20
    return pairs


def test_equal_forms_give_equal_bits_in_supernet_and_subnet():
    torch.manual_seed(0)
    supernet = SMALL.build_supernet(10, 1).eval()
    with torch.no_grad():
        for module in supernet.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.bias.uniform_(0.5, 1.5)
    x, state = torch.randn(3, 1, 8, 8), supernet.state_dict()
    for cell, form in kinds(np.random.default_rng(0)):
        expected = supernet(x, form)
        assert torch.equal(supernet(x, cell), expected)
        for named in (cell, form):
            subnet = SMALL.build_subnet(named, 10, 1).eval()
            subnet.load_state_dict(SMALL.subnet_state(state, named))
            assert torch.equal(subnet(x), expected)
        assert SMALL.connected(cell) == bool(supernet.blocks[0](supernet.stem(x), form).any())


def test_costs_count_what_acts_alone():
    image = (8, 8, 1)
    for cell, form in kinds(np.random.default_rng(1)):
        expected = count(SMALL.build_subnet(form, 10, 1), image)
        assert SMALL.cost(cell, image, 10) == SMALL.cost(form, image, 10) == expected
        assert count(SMALL.build_subnet(cell, 10, 1), image) == expected
    convolutions = SMALL.cost((3, 3, 3, 0, 0, 0), image, 10)
    assert convolutions == SMALL.cost((0,) * 6, image, 10)


def test_nothing_disconnected_or_double_is_drawn_bred_or_listed():
    rng, listed = np.random.default_rng(0), list(SMALL.enumerate())
    ones = set(listed)
    assert len(listed) == len(ones) == SMALL.size == 9_444
    assert listed == sorted(listed)
    assert all(SMALL.connected(cell) and SMALL.canonical(cell) == cell for cell in listed)
    drawn = [SMALL.sample(rng) for _ in range(3000)]
    assert set(drawn) <= ones
    edges = [sum(choice != 0 for choice in cell) for cell in listed]
    found = [sum(choice != 0 for choice in cell) for cell in drawn]
    np.testing.assert_allclose(np.bincount(found) / 3000, np.bincount(edges) / len(edges), atol=0.03)
    sparse = [cell for cell in listed if sum(choice != 0 for choice in cell) <= 2]
    for parent in sparse:
        for probability in (1e-9, 0.3, 1.0):
            child = SMALL.mutate(parent, rng, probability)
            assert child in ones
            assert child != parent
    for first, second in itertools.pairwise(sparse):
        assert SMALL.crossover(first, second, rng) in ones


def test_fair_paths_take_every_choice_once_and_none_is_disconnected():
    rng = np.random.default_rng(0)
    drawn = [columns(SMALL.choices, np.random.default_rng(seed)) for seed in range(100)]
    assert any(not SMALL.connected(path) for paths in drawn for path in paths)
    for _ in range(100):
        paths = fair_paths(SMALL, rng)
        assert len(paths) == 5
        assert all(SMALL.connected(path) and SMALL.canonical(path) == path for path in paths)
        for edge in range(6):
            real = [path[edge] for path in paths if path[edge]]
            assert len(real) == len(set(real)), "canonical forms leave choices out, and repeat none"


def test_limits_are_asked_of_the_listed_cells(monkeypatch):
    monkeypatch.setattr(constraints, "TRIES", 1)
    image = (8, 8, 1)
    table = SMALL.cost_table(image, 10)
    costs = {cell: table.cost(cell) for cell in SMALL.enumerate()}
    middle = sorted(cost.macs for cost in costs.values())[3000]
    params = sorted(cost.params for cost in costs.values())[4000]
    for limits in (Limits(middle), Limits(None, params), Limits(middle, params)):
        within = {cell: cost for cell, cost in costs.items() if limits.allow(cost)}
        assert largest(table, limits) == min(within, key=lambda cell: (-costs[cell].macs, costs[cell].params, cell))
        assert feasible(table, limits) == min(within, key=lambda cell: (costs[cell].macs, costs[cell].params, cell))
        rng = np.random.default_rng(0)
        assert {sample_feasible(SMALL, table, rng, limits) for _ in range(300)} <= set(within)
    lean = Limits(max_params=smallest_cost(costs).params)
    rng = np.random.default_rng(0)
    few = {sample_feasible(SMALL, table, rng, lean) for _ in range(2500)}
    assert few == {cell for cell, cost in costs.items() if lean.allow(cost)}, "also those that uniform draws miss"
    with pytest.raises(UserError, match=r"expected max_macs of at least \d+ or max_params of at least \d+"):
        feasible(*impossible())


def smallest_cost(costs: dict[tuple[int, ...], Cost]) -> Cost:
    return min(costs.values(), key=lambda cost: cost.params)


def impossible() -> tuple[ListedCosts, Limits]:
    """Return a table of two cells, one with few MACs and one with few parameters, and limits that need both."""
    rows = ((Cost(0, 0), Cost(1, 10), Cost(10, 1)),)
    return ListedCosts(Cost(0, 0), rows, ((1,), (2,)), lambda cell: cell), Limits(5, 5)


@pytest.mark.parametrize("cell", [(0, 0, 0, 0, 0, 0), (3, 3, 3, 0, 0, 0), (0, 0, 1, 0, 1, 2)])
def test_what_a_person_gives_must_be_connected(cell):
    with pytest.raises(UserError, match="has no way from input to output, expected a connected one"):
        SMALL.accept(cell)


def test_what_a_person_gives_is_taken_in_canonical_form_and_a_file_must_be_in_it():
    assert SMALL.accept([3, 0, 0, 4, 0, 3]) == (0, 0, 0, 4, 0, 0)
    assert SMALL.check_canonical([0, 0, 0, 4, 0, 0]) == (0, 0, 0, 4, 0, 0)
    with pytest.raises(UserError, match="3-0-0-4-0-3 names operations that do not act, expected 0-0-0-4-0-0"):
        SMALL.check_canonical([3, 0, 0, 4, 0, 3])
    with pytest.raises(UserError, match="has 2 choices, expected 6"):
        SMALL.accept([3, 0])


def test_a_reduction_adds_pooling_and_two_convolutions():
    torch.manual_seed(0)
    block = Reduction(3, 5).eval()
    x = torch.randn(2, 3, 7, 6)
    convolutions = [layer for layer in block.branch if isinstance(layer, torch.nn.Conv2d)]
    norms = [layer for layer in block.branch if isinstance(layer, torch.nn.BatchNorm2d)]
    y = norms[0](F.conv2d(F.relu(x), convolutions[0].weight, stride=2, padding=1))
    y = norms[1](F.conv2d(F.relu(y), convolutions[1].weight, padding=1))
    shortcut = F.conv2d(F.avg_pool2d(x, 2, 2, ceil_mode=True), block.shortcut[1].weight)
    assert torch.equal(block(x), shortcut + y)
    assert y.shape == (2, 5, 4, 3)


def test_steps_compose_to_the_features():
    torch.manual_seed(0)
    supernet = SMALL.build_supernet(10, 1).eval()
    x = torch.randn(3, 1, 8, 8)
    for architecture in [(3, 0, 2, 1, 4, 3), (0,) * 6]:
        y = x
        for step in supernet.steps(architecture):
            y = step(y)
        assert torch.equal(y, supernet.features(x, architecture))
    assert [type(step) for step in supernet.steps((3, 0, 2, 1, 4, 3))[1:-2]] == [Cell, Cell, Reduction, Cell]


def test_subnet_state_renames_without_copying():
    state = SMALL.build_supernet(10, 1).state_dict()
    chosen = SMALL.subnet_state(state, (3, 0, 2, 1, 4, 3))
    assert chosen["blocks.1.edges.2.conv.weight"] is state["blocks.1.edges.2.2.conv.weight"]
    assert {key.split(".")[3] for key in chosen if ".edges." in key} == {"0", "2", "5"}


@pytest.mark.parametrize(
    "change",
    [
        {"stages": Stages(channels=[24, 32], repeats=[1, 1], strides=[1, 2])},
        {"stages": Stages(channels=[16, 32], repeats=[1, 1], strides=[2, 2])},
        {"stages": Stages(channels=[16, 32], repeats=[1, 1], strides=[1, 1])},
        {"last_channels": 64},
    ],
)
def test_another_skeleton_is_refused(change):
    with pytest.raises(ValidationError, match="the skeleton of nasbench201"):
        SpaceParams(**{"name": "nasbench201", "last_channels": None, **change})
