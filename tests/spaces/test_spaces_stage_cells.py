"""Cells of NAS-Bench-201 for each stage, with kernels and exits: representation, networks, slices and exact costs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from imbnas.cell_graph import connected_cells
from imbnas.data.latency_file import space_digest
from imbnas.errors import UserError
from imbnas.files import canonical_json, digest_bytes
from imbnas.params.across_space import check_space
from imbnas.params.adapt import AdaptParams
from imbnas.params.approximate import ApproximateParams, check_operations
from imbnas.params.search import SearchParams
from imbnas.params.space_options import CellChoices, SpaceParams, Stages
from imbnas.params.supernet import SupernetParams
from imbnas.spaces.constraints import largest, sample_feasible, smallest
from imbnas.spaces.cost import count
from imbnas.spaces.drawing import graphs
from imbnas.spaces.limits import Limits
from imbnas.spaces.paths import fair_paths
from imbnas.spaces.registry import make_space
from imbnas.spaces.stage_cells import StageCellsSpace, live_cells

IMAGE = (8, 8, 1)
UNIFORM = SupernetParams(sampling="uniform")
WHOLE = CellChoices(per_stage=True, kernels=[3, 5, 7], exits=True)


def params(cells: CellChoices, repeats: tuple[int, int] = (3, 2)) -> SpaceParams:
    stages = Stages(channels=[4, 6], repeats=list(repeats), strides=[1, 2])
    return SpaceParams(name="nasbench201", stem={"channels": 4}, stages=stages, last_channels=None, nasbench201=cells)


SPACE = make_space(params(WHOLE))
PLAIN = make_space(params(CellChoices(per_stage=True)))
BENCHMARK = make_space(params(CellChoices()))
FIRST, SECOND = (3, 0, 2, 1, 5, 6), (0, 0, 0, 6, 0, 0)
"""Two canonical cells."""


@pytest.fixture(scope="module")
def supernet():
    torch.manual_seed(0)
    network = SPACE.build_supernet(5, 1).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.bias.uniform_(0.5, 1.5)
    return network


def test_the_parameters_count_the_choices_that_the_space_has():
    for cells in (WHOLE, CellChoices(per_stage=True, kernels=[3, 7]), CellChoices(per_stage=True, exits=True)):
        assert make_space(params(cells)).choices == params(cells).choices
    assert SPACE.choices == (7,) * 6 + (3,) + (7,) * 6 + (2,)
    assert len(live_cells(5)) == connected_cells()
    assert SPACE.size == len(live_cells(7)) ** 2 * 6


def test_the_default_space_is_the_benchmarks_and_says_nothing_of_the_option():
    assert not isinstance(BENCHMARK, StageCellsSpace)
    assert "nasbench201" not in params(CellChoices()).described
    assert params(WHOLE).described["nasbench201"]["kernels"] == [3, 5, 7]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernels": [3, 5]}, "per_stage false"),
        ({"exits": True}, "per_stage false"),
        ({"per_stage": True, "kernels": [5, 7]}, "expected 3"),
        ({"per_stage": True, "kernels": [3, 7, 5]}, "expected 3"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(options, said):
    with pytest.raises(ValidationError, match=said):
        CellChoices(**options)


def test_canonical_forms_are_those_of_each_stages_cell_and_every_stage_needs_a_way():
    dead = (3, 0, 0, 4, 0, 6)
    assert SPACE.canonical((*dead, 2, *FIRST, 0)) == (0, 0, 0, 4, 0, 0, 2, *FIRST, 0)
    with pytest.raises(UserError, match="no way from input to output"):
        SPACE.accept((*FIRST, 0, 3, 3, 3, 0, 0, 0, 1))
    with pytest.raises(UserError, match=r"choice 7 \(stage 1 cells\) is 3, expected a whole number from 0 to 2"):
        SPACE.check((*FIRST, 3, *SECOND, 0))
    rng = np.random.default_rng(0)
    drawn = [SPACE.sample(rng) for _ in range(50)]
    children = [SPACE.mutate(parent, rng, 0.2) for parent in drawn]
    crossed = [SPACE.crossover(first, second, rng) for first, second in pairwise(drawn)]
    assert all(map(SPACE.is_one, [*drawn, *children, *crossed, *fair_paths(SPACE, rng)]))
    assert all(parent != child for parent, child in zip(drawn, children, strict=True))


def test_the_table_equals_the_counter_on_the_built_subnet():
    rng = np.random.default_rng(0)
    for space in (SPACE, PLAIN):
        for architecture in [space.sample(rng) for _ in range(6)]:
            assert space.cost(architecture, IMAGE, 5) == count(space.build_subnet(architecture, 5, 1), IMAGE)
    broken = (3, 0, 0, 4, 0, 6, 2, 3, 3, 3, 0, 0, 0, 1)
    assert SPACE.cost(broken, IMAGE, 5) == count(SPACE.build_subnet(broken, 5, 1), IMAGE)


def test_one_cell_for_all_stages_costs_what_the_benchmarks_does():
    cell = (3, 0, 2, 1, 4, 3)
    assert PLAIN.cost((*cell, *cell), IMAGE, 5) == BENCHMARK.cost(cell, IMAGE, 5)


def test_a_subnet_answers_as_its_path_and_takes_its_weights_without_copies(supernet):
    x, state, rng = torch.randn(2, 1, 8, 8), supernet.state_dict(), np.random.default_rng(1)
    for architecture in [SPACE.sample(rng) for _ in range(6)]:
        subnet = SPACE.build_subnet(architecture, 5, 1).eval()
        chosen = SPACE.subnet_state(state, architecture)
        assert all(any(value is other for other in state.values()) for value in chosen.values())
        subnet.load_state_dict(chosen)
        assert torch.equal(subnet(x), supernet(x, architecture))
        y = x
        for step in supernet.steps(architecture):
            y = step(y)
        assert torch.equal(y, supernet.features(x, architecture))


def test_an_exit_takes_the_output_of_the_last_cell_that_is_left(supernet):
    x = torch.randn(2, 1, 8, 8)
    short = supernet(x, (*FIRST, 0, *SECOND, 1))
    assert len(SPACE.build_subnet((*FIRST, 0, *SECOND, 1), 5, 1).blocks) == 1 + 1 + 2
    with torch.no_grad():
        kept = supernet.blocks[1].edges[0][3].conv.weight.clone()
        supernet.blocks[1].edges[0][3].conv.weight.zero_()
    assert torch.equal(supernet(x, (*FIRST, 0, *SECOND, 1)), short), "the second cell of stage 1 is not there"
    longer = supernet(x, (*FIRST, 1, *SECOND, 1))
    with torch.no_grad():
        supernet.blocks[1].edges[0][3].conv.weight.copy_(kept)
    assert not torch.equal(supernet(x, (*FIRST, 1, *SECOND, 1)), longer)


def test_two_branches_share_all_stages_but_the_last():
    architecture = (*FIRST, 1, *SECOND, 0)
    single, double = SPACE.build_subnet(architecture, 5, 1), SPACE.build_bilateral(architecture, 5, 1).eval()
    assert len(double.blocks) == 2
    assert [len(branch.blocks) for branch in double.branches] == [2, 2]
    for branch in double.branches:
        branch.load_state_dict(double.branches[0].state_dict())
    twice = sum(values.numel() for branch in double.branches for values in branch.parameters())
    shared = sum(values.numel() for part in (single.stem, *single.blocks[:2]) for values in part.parameters())
    assert sum(values.numel() for values in double.parameters()) == shared + twice + 2 * 6 * 5 + 5
    assert double(torch.randn(2, 1, 8, 8)).shape == (2, 5)


def test_paths_share_the_steps_before_they_part(supernet):
    one = (*FIRST, 1, *SECOND, 1)
    assert supernet.shared_steps(one, (*FIRST, 2, *SECOND, 1)) == 1 + 2
    assert supernet.shared_steps(one, (*FIRST, 1, *SECOND, 0)) == 1 + 2 + 1 + 1
    assert supernet.shared_steps(one, (*SECOND, 1, *SECOND, 1)) == 1
    # Sorted paths are a trie: two share what all between them share.
    rng = np.random.default_rng(2)
    near = [one]
    for _ in range(60):
        near.append(SPACE.mutate(near[int(rng.integers(len(near)))], rng, 0.05))
    paths = sorted({*near})
    for first, middle, last in zip(paths, paths[1:], paths[2:], strict=False):
        pairs = supernet.shared_steps(first, middle), supernet.shared_steps(middle, last)
        assert supernet.shared_steps(first, last) == min(pairs)


def test_extremes_and_draws_keep_limits():
    table = SPACE.cost_table(IMAGE, 5)
    assert largest(table, Limits()) == (6,) * 6 + (2,) + (6,) * 6 + (1,)
    assert smallest(table) == (0, 0, 0, 1, 0, 0, 0) * 2
    middle = Limits(table.cost((6,) * 6 + (0,) + (6,) * 6 + (0,)).macs // 2)
    rng = np.random.default_rng(0)
    found = {sample_feasible(SPACE, table, rng, middle) for _ in range(20)}
    assert len(found) > 1
    assert all(SPACE.is_one(one) and middle.allow(table.cost(one)) for one in found)
    few = Limits(table.cost(smallest(table)).macs)
    # Uniform draws miss these: cells without a convolution, of which all that hold the same are alike likely.
    tiny = [sample_feasible(SPACE, table, rng, few) for _ in range(40)]
    assert {choice for one in tiny for choice in (*one[:6], *one[7:13])} == {0, 1, 4}
    assert {one[6] for one in tiny} == {0, 1, 2}


def test_the_words_and_the_drawing_name_each_stage():
    architecture = (*FIRST, 1, *SECOND, 0)
    lines = SPACE.describe(architecture)
    assert lines[4] == "stage 1 edge 1 -> 3: nor_conv_5x5"
    assert lines[6] == "stage 1 cells: 2"
    first, second = graphs(SPACE, architecture)
    assert (first.title, second.title) == ("stage 1 cell, 2 times", "stage 2 cell, once")
    assert second.edges == (("node 0", "node 3", "nor_conv_7x7"),)


def test_a_fixed_architecture_must_have_a_way_in_each_stage():
    def check(*given: int) -> None:
        check_space(
            params(WHOLE),
            SupernetParams(sampling="uniform"),
            AdaptParams(),
            SearchParams(method="fixed", architecture=list(given)),
        )

    check(*FIRST, 0, *SECOND, 0)
    with pytest.raises(ValueError, match="a cell without a way"):
        check(*FIRST, 0, 3, 3, 3, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="choice 14 is 2, expected at most 1"):
        check(*FIRST, 0, *SECOND, 2)


def test_larger_kernels_may_be_approximate_where_they_are_searched():
    chosen = ApproximateParams(multiplier="truncated-1", operations=["nor_conv_3x3", "nor_conv_7x7"])
    check_operations(params(WHOLE), chosen)
    with pytest.raises(ValueError, match=r"expected some of nor_conv_1x1, nor_conv_3x3, none twice"):
        check_operations(params(CellChoices()), chosen)


def test_latencies_are_refused_and_a_table_of_the_benchmarks_space_stays_valid():
    with pytest.raises(ValueError, match=r"search\.latency is tables/t\.csv with space\.nasbench201\.per_stage true"):
        check_space(
            params(WHOLE),
            SupernetParams(sampling="uniform"),
            AdaptParams(),
            SearchParams(method="random", latency="tables/t.csv"),
        )
    tree = params(CellChoices()).model_dump(mode="json")
    acting = {key: tree[key] for key in ("stem", "stages", "last_channels")}
    text = canonical_json({"name": "nasbench201", **acting, "own": None})
    assert space_digest(params(CellChoices())) == digest_bytes(text.encode())[:16]
