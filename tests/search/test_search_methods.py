"""Methods of the search on a toy: they respect limits, repeat nothing, find the best, and replay after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.params.search import SearchParams
from imbnas.params.space_options import SpaceParams, Stages
from imbnas.search.archive import Archive, Score
from imbnas.search.kept_scores import KeptScores, number_coding
from imbnas.search.methods import METHODS, Field, evolution, exhaustive, random_search
from imbnas.spaces.constraints import largest, sample_feasible
from imbnas.spaces.limits import Limits
from imbnas.spaces.most_parameters import most_parameters
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space

SPACE = make_space(SpaceParams(stages=Stages(channels=[16, 32], repeats=[2, 2], strides=[1, 2])))
TABLE = SPACE.cost_table((8, 8, 1), 10)
COSTS = sorted(TABLE.cost(a).macs for a in SPACE.enumerate())
LIMITS = Limits(COSTS[len(COSTS) // 2], None)
FIELD = Field(
    SPACE,
    lambda a: LIMITS.allow(TABLE.cost(a)),
    lambda rng: sample_feasible(SPACE, TABLE, rng, LIMITS),
    lambda a: LIMITS.excess(TABLE.cost(a)),
    lambda cost: largest(TABLE, LIMITS) if cost == "macs" else most_parameters(TABLE, LIMITS),
)


def quality(architecture: Architecture) -> Score:
    """A smooth toy objective with ties: the share of blocks that chose 2."""
    share = architecture.count(2) / len(architecture)
    return Score(share, 0.1)


def together(score: Callable[[Architecture], Score]) -> Callable[[Sequence[Architecture]], Iterator]:
    """Score in ascending order, which is not the order of the proposals."""
    return lambda architectures: ((a, score(a)) for a in sorted(architectures))


def archive_of(score: Callable[[Architecture], Score] = quality) -> Archive:
    return Archive(together(score), TABLE.cost)


PARAMS = SearchParams(population=10, generations=4, parents=4, mutation=0.2, candidates=40)
BUDGETED = sorted(METHODS.keys() - {"exhaustive", "macs", "params"})
"""Every registered method but those that evaluate all there is, or one."""


def fill(name: str, archive: Archive, seed: int) -> None:
    METHODS[name](FIELD, archive, PARAMS, seed)


@pytest.mark.parametrize("name", BUDGETED)
def test_a_method_evaluates_each_function_of_a_cell_once_and_none_that_is_disconnected(name: str) -> None:
    space = make_space(SpaceParams(name="nasbench201", last_channels=None))
    table = space.cost_table((8, 8, 1), 10)
    field = Field(space, lambda a: True, space.sample)
    # Fewer operations are better: those who breed from the best come near to cells without any.
    archive = Archive(together(lambda a: Score(a.count(0) / 6)), table.cost)
    METHODS[name](field, archive, PARAMS, 1)
    assert len(archive.entries) == 40
    assert all(space.connected(a) and space.canonical(a) == a for a in archive.entries)
    assert all(table.cost(a).macs >= table.fixed.macs for a in archive.entries)
    assert archive.ranked()[0].architecture.count(0) < 6


def test_every_method_of_the_parameters_is_registered() -> None:
    names = get_args(SearchParams.model_fields["method"].annotation)
    assert METHODS.keys() | {"darts", "fixed"} == set(names)


@pytest.mark.parametrize("name", BUDGETED)
def test_a_method_evaluates_its_budget_of_feasible_architectures_once(name: str) -> None:
    calls: list[Architecture] = []

    def score(architecture: Architecture) -> Score:
        calls.append(architecture)
        return quality(architecture)

    archive = archive_of(score)
    fill(name, archive, 1)
    assert len(calls) == len(set(calls)) == len(archive.entries) == 40
    assert all(FIELD.allowed(a) for a in calls)
    assert set(archive.entries) == set(calls)


@pytest.mark.parametrize("name", BUDGETED)
def test_a_killed_search_ends_like_an_undisturbed_one(tmp_path: Path, name: str) -> None:
    whole = archive_of()
    fill(name, whole, 5)
    calls: list[Architecture] = []

    def kept(budget: int) -> Archive:
        def value(architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, float]]:
            for architecture in sorted(architectures):
                if len(calls) == budget:
                    raise KeyboardInterrupt
                calls.append(architecture)
                yield architecture, quality(architecture).value

        found = KeptScores(tmp_path / "k", "run", value, number_coding())
        return Archive(lambda architectures: ((a, Score(v, 0.1)) for a, v in found(architectures)), TABLE.cost)

    with pytest.raises(KeyboardInterrupt):
        fill(name, kept(17), 5)
    file = tmp_path / "k.run.jsonl"
    file.write_text(file.read_text()[:-9])  # the last line was cut off by the kill
    again = kept(99)
    fill(name, again, 5)
    assert list(again.entries.items()) == list(whole.entries.items())
    assert len(calls) == 17 + 40 - 16


@pytest.mark.parametrize("cost", ["macs", "params"])
def test_the_baselines_of_cost_take_the_largest_feasible_one(cost: str) -> None:
    archive = archive_of()
    fill(cost, archive, 0)
    (found,) = archive.entries.values()
    feasible = [TABLE.cost(a) for a in SPACE.enumerate() if FIELD.allowed(a)]
    assert getattr(found.cost, cost) == max(getattr(each, cost) for each in feasible)


def test_most_parameters_is_exact_under_any_limits() -> None:
    middle = sorted(TABLE.cost(a).params for a in SPACE.enumerate())[len(COSTS) // 2]
    for limits in (Limits(), LIMITS, Limits(COSTS[len(COSTS) // 3], middle), Limits(None, middle)):
        found = TABLE.cost(most_parameters(TABLE, limits))
        feasible = [cost for a in SPACE.enumerate() if limits.allow(cost := TABLE.cost(a))]
        most = max(cost.params for cost in feasible)
        assert found.params == most
        assert found.macs == min(cost.macs for cost in feasible if cost.params == most)


def test_seeds_differ_and_repeat() -> None:
    found = []
    for seed in (0, 0, 1):
        archive = archive_of()
        fill("evolution", archive, seed)
        found.append(list(archive.entries))
    assert found[0] == found[1] != found[2]


def test_exhaustive_finds_the_best_and_evolution_comes_near() -> None:
    everything, evolved = archive_of(), archive_of()
    exhaustive(FIELD, everything)
    assert len(everything.entries) == sum(FIELD.allowed(a) for a in SPACE.enumerate())
    fill("evolution", evolved, 0)
    best = everything.ranked()[0]
    assert everything.value(best.architecture) == max(a.count(2) / 4 for a in SPACE.enumerate() if FIELD.allowed(a))
    assert evolved.value(evolved.ranked()[0].architecture) >= 0.75 * everything.value(best.architecture)


def test_evolution_ends_when_nothing_new_is_left() -> None:
    archive = archive_of()
    evolution(FIELD, archive, population=100, generations=10, parents=5, mutation=0.1, seed=0)
    assert len(archive.entries) == sum(FIELD.allowed(a) for a in SPACE.enumerate())


def test_ties_go_to_fewer_macs_then_to_the_smaller_tuple() -> None:
    archive = archive_of(lambda a: Score(0.5))
    exhaustive(FIELD, archive)
    order = [(entry.cost.macs, entry.architecture) for entry in archive.ranked()]
    assert order == sorted(order)


def test_most_parameters_of_cells_counts_what_acts() -> None:
    space = make_space(SpaceParams(name="nasbench201", last_channels=None))
    table = space.cost_table((8, 8, 1), 10)
    costs = [table.cost(a) for a in space.enumerate()]
    limit = sorted(cost.params for cost in costs)[len(costs) // 2] - 1
    for limits in (Limits(), Limits(None, limit), Limits(max(cost.macs for cost in costs) // 2, None)):
        found = table.cost(most_parameters(table, limits))
        assert found.params == max(cost.params for cost in costs if limits.allow(cost))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31 - 1))
def test_random_search_is_distinct_for_any_seed(seed: int) -> None:
    archive = archive_of()
    random_search(FIELD, archive, 12, seed)
    assert len(archive.entries) == 12
    assert all(np.all(np.array(a) < SPACE.choices) for a in archive.entries)
