"""Limits: exact against all architectures of small tables, and never a hang."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imbnas.errors import UserError
from imbnas.params.space_options import SpaceParams, Stages, Stem
from imbnas.spaces import constraints
from imbnas.spaces.constraints import feasible, largest, minimum, resolve, sample_feasible, smallest
from imbnas.spaces.cost import Cost, CostTable
from imbnas.spaces.limits import Limits
from imbnas.spaces.most_parameters import most_parameters
from imbnas.spaces.registry import make_space

LONG = make_space(
    SpaceParams(
        stem=Stem(channels=16, stride=2),
        stages=Stages(channels=[64, 160, 320, 640], repeats=[4, 4, 8, 4], strides=[2, 2, 2, 2]),
        last_channels=1024,
    )
)
LONG_TABLE = LONG.cost_table((224, 224, 3), 1000)

costs = st.builds(Cost, st.integers(0, 8), st.integers(0, 8))
tables = st.builds(
    CostTable, costs, st.lists(st.lists(costs, min_size=1, max_size=4).map(tuple), min_size=1, max_size=5).map(tuple)
)
bounds = st.none() | st.integers(1, 40)
limits_drawn = st.builds(Limits, bounds, bounds)


def all_of(table: CostTable) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(len(row)) for row in table.blocks)))


def check_extremes(table: CostTable, limits: Limits) -> None:
    """Compare with a walk over all architectures."""
    listed = {architecture: table.cost(architecture) for architecture in all_of(table)}
    assert minimum(table) == Cost(min(c.macs for c in listed.values()), min(c.params for c in listed.values()))
    assert smallest(table) == min(listed, key=lambda a: (listed[a].macs, listed[a].params, a))
    within = [architecture for architecture, cost in listed.items() if limits.allow(cost)]
    if within:
        assert feasible(table, limits) == min(within, key=lambda a: (listed[a].macs, listed[a].params, a))
        assert largest(table, limits) == min(within, key=lambda a: (-listed[a].macs, listed[a].params, a))
    else:
        for search in (feasible, largest):
            with pytest.raises(UserError, match="expected"):
                search(table, limits)


timed_costs = st.builds(Cost, st.integers(0, 8), st.integers(0, 8), st.integers(0, 8))
timed_tables = st.builds(
    CostTable,
    timed_costs,
    st.lists(st.lists(timed_costs, min_size=1, max_size=4).map(tuple), min_size=1, max_size=5).map(tuple),
)


@settings(deadline=None, max_examples=80)
@given(table=timed_tables, limits=st.builds(Limits, bounds, bounds, bounds))
def test_limits_on_three_costs_are_exact(table: CostTable, limits: Limits) -> None:
    listed = {architecture: table.cost(architecture) for architecture in all_of(table)}
    within = {architecture for architecture, cost in listed.items() if limits.allow(cost)}
    if not within:
        with pytest.raises(UserError, match="expected") as caught:
            feasible(table, limits)
        least = minimum(table)
        for name, words, figure, limit in limits.named:
            if limit < getattr(least, figure):
                assert f"{name}: found {words}, expected at least" in str(caught.value)
        return
    few, many, wide = feasible(table, limits), largest(table, limits), most_parameters(table, limits)
    assert {few, many, wide} <= within
    assert listed[few].macs == min(listed[one].macs for one in within)
    assert listed[many].macs == max(listed[one].macs for one in within)
    assert listed[wide].params == max(listed[one].params for one in within)
    rng = np.random.default_rng(0)
    assert {constraints._guided(table, rng, limits) for _ in range(20)} <= within


def test_what_no_subnet_meets_together_is_told_with_what_would_do() -> None:
    # Few operations take long, and the other way round.
    table = CostTable(Cost(0, 0, 1_000_000), ((Cost(1, 5, 9_500_000), Cost(9, 5, 500_001)),))
    with pytest.raises(UserError) as caught:
        feasible(table, Limits(5, None, 2_000_000))
    assert str(caught.value) == (
        "search.max_macs and search.max_latency: found 5 and 2, which no subnet meets together, expected max_macs of "
        "at least 9 or max_latency of at least 10.5"
    )
    assert feasible(table, Limits(9, None, 1_500_001)) == (1,)
    # The largest is the second: it takes 1.500001 ms.
    assert resolve(table, None, None, "0.5x") == Limits(None, None, 750_000)
    assert resolve(table, None, None, 1.25) == Limits(None, None, 1_250_000)


@settings(deadline=None, max_examples=60)
@given(table=tables, limits=limits_drawn)
def test_extremes_equal_those_of_all_architectures(table, limits):
    check_extremes(table, limits)


def test_extremes_of_large_random_tables_with_many_equal_sums():
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = [rng.integers(0, 9, (rng.integers(2, 5), 2)).tolist() for _ in range(4)]
        table = CostTable(Cost(0, 0), tuple(tuple(Cost(*pair) for pair in row) for row in rows))
        first, second = rng.integers(4, 28, 2).tolist()
        for limits in (Limits(first, second), Limits(first), Limits(None, second)):
            check_extremes(table, limits)


@settings(deadline=None, max_examples=40)
@given(table=tables, limits=limits_drawn, seed=st.integers(0, 1000))
def test_guided_draws_reach_every_feasible_architecture_and_no_other(table, limits, seed):
    within = {architecture for architecture in all_of(table) if limits.allow(table.cost(architecture))}
    assume(0 < len(within) <= 6)
    rng = np.random.default_rng(seed)
    drawn = {constraints._guided(table, rng, limits) for _ in range(300)}
    assert drawn <= within
    if max(len(row) for row in table.blocks) <= 3 and len(table.blocks) <= 3:
        assert drawn == within


@pytest.mark.parametrize("states", [4, 30])
@settings(deadline=None, max_examples=40)
@given(table=tables, limits=limits_drawn)
def test_a_capped_programme_stays_within_the_limits(states, table, limits):
    assume(any(limits.allow(table.cost(architecture)) for architecture in all_of(table)))
    before = constraints.STATES
    constraints.STATES = states
    try:
        found = table.cost(largest(table, limits))
    finally:
        constraints.STATES = before
    assert limits.allow(found)


def test_the_largest_of_a_long_chain_comes_close_to_its_limit():
    for limits in (Limits(330_000_000), Limits(330_000_000, 3_300_000), Limits(283_000_000)):
        cost = LONG_TABLE.cost(largest(LONG_TABLE, limits))
        assert limits.allow(cost)
        assert cost.macs > 0.9999 * limits.max_macs
    best = largest(LONG_TABLE, Limits(None, 3_300_000))
    assert LONG_TABLE.cost(best).params <= 3_300_000
    assert LONG_TABLE.cost(best).macs > 350_000_000
    unlimited = LONG_TABLE.cost(largest(LONG_TABLE, Limits()))
    assert unlimited == LONG_TABLE.cost(largest(LONG_TABLE, Limits(unlimited.macs, unlimited.params)))


def test_limits_that_a_single_architecture_meets_are_met():
    least = LONG_TABLE.cost(smallest(LONG_TABLE))
    assert least.macs == minimum(LONG_TABLE).macs
    rng = np.random.default_rng(0)
    found = sample_feasible(LONG, LONG_TABLE, rng, Limits(max_macs=least.macs))
    assert LONG_TABLE.cost(found).macs == least.macs
    tight = Limits(max_macs=least.macs + 1_000_000)
    drawn = {sample_feasible(LONG, LONG_TABLE, rng, tight) for _ in range(30)}
    assert len(drawn) > 10
    assert all(tight.allow(LONG_TABLE.cost(architecture)) for architecture in drawn)


def test_guided_draws_do_not_favour_early_blocks():
    # Eight equal blocks of which one may be costly: each is the costly one about equally often.
    table = CostTable(Cost(0, 0), ((Cost(1, 1), Cost(2, 1)),) * 8)
    rng = np.random.default_rng(0)
    counts = np.sum([constraints._guided(table, rng, Limits(9)) for _ in range(2000)], axis=0)
    assert counts.sum() > 1900
    assert counts.min() > 0.7 * counts.max()


def test_loose_limits_leave_the_uniform_draw_as_it_is():
    same = LONG.sample(np.random.default_rng(7))
    assert sample_feasible(LONG, LONG_TABLE, np.random.default_rng(7), Limits()) == same


def test_draws_repeat_with_the_seed():
    limits = Limits(max_macs=minimum(LONG_TABLE).macs + 2_000_000)
    first, second = (
        [sample_feasible(LONG, LONG_TABLE, rng, limits) for _ in range(3)]
        for rng in (np.random.default_rng(1), np.random.default_rng(1))
    )
    assert first == second


def test_refusals_name_the_parameter_and_the_smallest_figure():
    table = CostTable(Cost(100, 10), ((Cost(5, 50), Cost(50, 5)), (Cost(1, 1),)))
    cases = {
        (100, None): "search.max_macs: found 100, expected at least 106, the smallest subnet's",
        (None, 15): "search.max_params: found 15, expected at least 16, the smallest subnet's",
        (105, 15): (
            "search.max_macs: found 105, expected at least 106, the smallest subnet's; "
            "search.max_params: found 15, expected at least 16, the smallest subnet's"
        ),
        (150, 60): (
            "search.max_macs and search.max_params: found 150 and 60, which no subnet meets together, "
            "expected max_macs of at least 151 or max_params of at least 61"
        ),
    }
    for (macs, params), message in cases.items():
        for act in (feasible, largest):
            with pytest.raises(UserError) as caught:
                act(table, Limits(macs, params))
            assert str(caught.value) == message
    assert feasible(table, Limits(151, 60)) == (1, 0)
    assert feasible(table, Limits(150, 61)) == (0, 0)


def test_a_limit_may_be_a_share_of_what_the_largest_architecture_has():
    # The most parameters, 70, are not those of the one with the most MACs, which has 21.
    table = CostTable(Cost(100, 10), ((Cost(5, 60), Cost(230, 11)), (Cost(0, 0),)))
    assert resolve(table, "0.5x", "0.5x") == Limits(165, 10)
    assert resolve(table, "0.5x", None) == Limits(165, None)
    assert resolve(table, 7, "1x") == Limits(7, 21)
    assert resolve(table, 7, 8) == Limits(7, 8)
    # As written, not as the nearest binary fraction: 0.7 * 330 is 230.99999999999997 in floating point.
    assert resolve(table, "0.7x", "1.0x") == Limits(231, 21)
    assert feasible(table, resolve(table, "0.5x", None)) == (0, 0)
    for act in (feasible, largest):
        with pytest.raises(UserError) as caught:
            act(table, resolve(table, ".3x", 20))
        assert str(caught.value) == (
            "search.max_macs: found .3x (99), expected at least 105, the smallest subnet's; "
            "search.max_params: found 20, expected at least 21, the smallest subnet's"
        )


def test_sampling_refuses_what_is_infeasible_together_only():
    macs, params = minimum(LONG_TABLE).macs, minimum(LONG_TABLE).params
    for limits in (Limits(max_macs=macs), Limits(max_params=params)):
        assert limits.allow(LONG_TABLE.cost(feasible(LONG_TABLE, limits)))
    with pytest.raises(UserError, match="which no subnet meets together"):
        sample_feasible(LONG, LONG_TABLE, np.random.default_rng(0), Limits(macs, params))
    with pytest.raises(UserError, match=f"search.max_macs: found 1, expected at least {macs}"):
        sample_feasible(LONG, LONG_TABLE, np.random.default_rng(0), Limits(1))


def test_limits_allow_and_excess():
    cost = Cost(150, 30)
    assert Limits().allow(cost)
    assert Limits().excess(cost) == ()
    assert Limits(150, 30).allow(cost)
    assert not Limits(149, 30).allow(cost)
    assert not Limits(None, 29).allow(cost)
    assert Limits(100, 60).excess(cost) == (0.5, -0.5)
    assert Limits(None, 20).excess(cost) == (0.5,)
