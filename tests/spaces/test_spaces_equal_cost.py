"""Architectures of equal cost: uniform over a window, found where they are rare, the nearest where there are none."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from imbnas.params.space_options import SpaceParams, Stages, Stem
from imbnas.spaces.constraints import largest, smallest
from imbnas.spaces.cost import Cost, CostTable
from imbnas.spaces.equal_cost import WINDOW, EqualCost, window_sampler
from imbnas.spaces.limits import Limits
from imbnas.spaces.registry import make_space

SMALL = make_space(
    SpaceParams(stem=Stem(channels=4), stages=Stages(channels=[8, 16], repeats=[1, 2], strides=[1, 2]), last_channels=8)
)
SMALL_TABLE = SMALL.cost_table((8, 8, 1), 4)
LONG = make_space(
    SpaceParams(
        stem=Stem(channels=16, stride=2),
        stages=Stages(channels=[64, 160, 320, 640], repeats=[4, 4, 8, 4], strides=[2, 2, 2, 2]),
        last_channels=1024,
    )
)
LONG_TABLE = LONG.cost_table((224, 224, 3), 1000)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(4))
def test_a_window_s_draw_is_uniform_over_it(seed: int) -> None:
    costs = rng(seed).integers(100, 4000, (6, 3))
    table = CostTable(Cost(50, 0), tuple(tuple(Cost(int(macs), 1) for macs in row) for row in costs))
    listed = {one: table.cost(one).macs for one in itertools.product(range(3), repeat=6)}
    low, high = np.quantile(list(listed.values()), [0.02, 0.06]).astype(int)
    within = [one for one, macs in listed.items() if low <= macs <= high]
    sample = window_sampler(table, int(low), int(high))
    assert sample is not None
    generator = rng(seed)
    drawn = Counter(one for one in (sample(generator) for _ in range(400 * len(within))) if one in set(within))
    assert set(drawn) == set(within)
    # Pearson's statistic of equal chances, far into its tail.
    expected = drawn.total() / len(within)
    statistic = sum((drawn[one] - expected) ** 2 / expected for one in within)
    assert statistic < len(within) - 1 + 5 * np.sqrt(2 * (len(within) - 1))
    assert drawn.total() > 0.9 * 400 * len(within), "rounding puts few draws outside of the window"


def test_a_window_without_architectures_gives_none() -> None:
    table = CostTable(Cost(0, 0), ((Cost(100, 1), Cost(200, 1)),) * 2)
    assert window_sampler(table, 500, 600) is None
    assert window_sampler(table, 0, 90) is None
    assert window_sampler(table, 60, 50) is None


def test_weights_prefer_few_parameters() -> None:
    table = CostTable(Cost(0, 0), ((Cost(5, 1), Cost(5, 100)),) * 8)
    light, plain = (window_sampler(table, 40, 40, weight) for weight in (512.0, 0.0))
    assert light is not None
    assert plain is not None
    generator = rng(0)
    assert {light(generator) for _ in range(50)} == {(0,) * 8}
    assert len({plain(generator) for _ in range(50)}) > 20


@pytest.mark.parametrize("which", ["smallest", "largest", "random"])
@pytest.mark.parametrize("limited", ["nothing", "macs", "params", "both"])
def test_a_large_space_has_others_of_equal_cost_wherever_the_chosen_one_is(which: str, limited: str) -> None:
    ends = {"smallest": smallest(LONG_TABLE), "largest": largest(LONG_TABLE, Limits()), "random": LONG.sample(rng(5))}
    chosen = ends[which]
    cost = LONG_TABLE.cost(chosen)
    limits = Limits(
        cost.macs if limited in ("macs", "both") else None, cost.params if limited in ("params", "both") else None
    )
    equal, taken = EqualCost(LONG, LONG_TABLE, limits, cost.macs), {chosen}
    for place in range(12):
        found = equal.draw(rng(place), taken)
        if found is None:
            # The smallest is alone within a limit that is its own cost.
            assert which == "smallest"
            assert limits.max_macs is not None
            return
        assert found not in taken
        assert limits.allow(LONG_TABLE.cost(found))
        assert abs(LONG_TABLE.cost(found).macs / cost.macs - 1.0) <= WINDOW
        taken.add(found)
    assert (which, limited) not in (("smallest", "macs"), ("smallest", "both"))


def test_where_none_is_of_equal_cost_a_large_space_gives_near_ones() -> None:
    # One block decides nearly everything: beside the chosen one there is nothing for 30 %.
    wide = ((Cost(1_000_000, 1), Cost(1_300_000, 1), Cost(9_000_000, 1)),)
    table = CostTable(Cost(0, 0), (*wide, *((Cost(10, 1), Cost(11, 1), Cost(12, 1), Cost(13, 1)),) * 9))
    space = LONG
    chosen = (0,) * 10
    same_first = {(0, *rest) for rest in itertools.product(range(4), repeat=2)}
    assert len(same_first) == 16
    equal = EqualCost(space, table, Limits(), table.cost(chosen).macs)
    found = equal.draw(rng(0), {chosen})
    assert found is not None
    assert found[0] == 0
    alone = CostTable(Cost(0, 0), (*wide, *((Cost(10, 1),),) * 9))
    found = EqualCost(space, alone, Limits(), alone.cost(chosen).macs).draw(rng(0), {chosen})
    assert found == (1, *(0,) * 9)


def test_a_small_space_is_listed_to_its_end_nearest_first() -> None:
    chosen = (0, 1, 2)
    macs = SMALL_TABLE.cost(chosen).macs
    equal, taken, gaps = EqualCost(SMALL, SMALL_TABLE, Limits(), macs), {chosen}, []
    while (found := equal.draw(rng(len(taken)), taken)) is not None:
        assert found not in taken
        taken.add(found)
        gaps.append(abs(SMALL_TABLE.cost(found).macs / macs - 1.0))
    assert len(taken) == SMALL.size
    far = [gap for gap in gaps if gap > WINDOW]
    assert gaps == [gap for gap in gaps if gap <= WINDOW] + sorted(far)
    assert len(far) < len(gaps) > 10


def test_every_architecture_of_equal_cost_in_a_small_space_can_come() -> None:
    chosen = (0, 1, 2)
    macs = SMALL_TABLE.cost(chosen).macs
    equal = EqualCost(SMALL, SMALL_TABLE, Limits(), macs)
    within = {one for one in SMALL.enumerate() if abs(SMALL_TABLE.cost(one).macs / macs - 1.0) <= WINDOW} - {chosen}
    assert len(within) > 2
    assert {equal.draw(rng(seed), {chosen}) for seed in range(40 * len(within))} == within


def test_limits_bind_in_a_small_space() -> None:
    limits = Limits(max_params=int(np.median([SMALL_TABLE.cost(one).params for one in SMALL.enumerate()])))
    allowed = {one for one in SMALL.enumerate() if limits.allow(SMALL_TABLE.cost(one))}
    equal = EqualCost(SMALL, SMALL_TABLE, limits, SMALL_TABLE.cost((0, 1, 2)).macs)
    found = {equal.draw(rng(seed), set()) for seed in range(60)}
    assert found <= allowed
    assert 1 < len(allowed) < SMALL.size
