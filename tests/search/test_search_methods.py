"""Methods of the search on a toy: they respect limits, repeat nothing, find the best, and replay after a kill."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.params.search import SearchParams
from imbnas.params.shared import SpaceParams, Stages
from imbnas.sealed import sealed
from imbnas.search.archive import Archive, Score
from imbnas.search.methods import METHODS, Field, evolution, exhaustive, random_search
from imbnas.spaces.constraints import Limits, sample_feasible
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
)


def quality(architecture: Architecture) -> Score:
    """A smooth toy objective with ties: the share of blocks that chose 2."""
    share = architecture.count(2) / len(architecture)
    return Score(balanced_accuracy=share, accuracy=1 - share, worst_class=0.0, standard_error=0.1)


def together(score: Callable[[Architecture], Score]) -> Callable[[Sequence[Architecture]], Iterator]:
    """Score in ascending order, which is not the order of the proposals."""
    return lambda architectures: ((a, score(a)) for a in sorted(architectures))


def archive_at(path: Path, score: Callable[[Architecture], Score] = quality) -> Archive:
    return Archive(path / "scores.jsonl", together(score), TABLE.cost, "balanced_accuracy")


PARAMS = SearchParams(population=10, generations=4, parents=4, mutation=0.2, candidates=40)
BUDGETED = sorted(METHODS.keys() - {"exhaustive"})
"""Every registered method but the one that evaluates all there is."""


def fill(name: str, archive: Archive, seed: int) -> None:
    METHODS[name](FIELD, archive, PARAMS, seed)


@pytest.mark.parametrize("name", BUDGETED)
def test_a_method_evaluates_each_function_of_a_cell_once_and_none_that_is_disconnected(
    tmp_path: Path, name: str
) -> None:
    space = make_space(SpaceParams(name="nasbench201", last_channels=None))
    table = space.cost_table((8, 8, 1), 10)
    field = Field(space, lambda a: True, space.sample)
    # Fewer operations are better: those who breed from the best come near to cells without any.
    score = together(lambda a: Score(a.count(0) / 6, 0.0, 0.0, 0.1))
    archive = Archive(tmp_path / "scores.jsonl", score, table.cost, "balanced_accuracy")
    METHODS[name](field, archive, PARAMS, 1)
    assert len(archive.entries) == 40
    assert all(space.connected(a) and space.canonical(a) == a for a in archive.entries)
    assert all(table.cost(a).macs >= table.fixed.macs for a in archive.entries)
    assert archive.ranked()[0].architecture.count(0) < 6


def test_every_method_of_the_parameters_is_registered() -> None:
    names = get_args(SearchParams.model_fields["method"].annotation)
    assert METHODS.keys() | {"darts", "fixed"} == set(names)


@pytest.mark.parametrize("name", BUDGETED)
def test_a_method_evaluates_its_budget_of_feasible_architectures_once(tmp_path: Path, name: str) -> None:
    calls: list[Architecture] = []

    def score(architecture: Architecture) -> Score:
        calls.append(architecture)
        return quality(architecture)

    archive = archive_at(tmp_path, score)
    fill(name, archive, 1)
    assert len(calls) == len(set(calls)) == len(archive.entries) == 40
    assert all(FIELD.allowed(a) for a in calls)
    assert set(archive.entries) == set(calls)


@pytest.mark.parametrize("name", BUDGETED)
def test_a_killed_search_ends_like_an_undisturbed_one(tmp_path: Path, name: str) -> None:
    whole = archive_at(tmp_path / "whole")
    fill(name, whole, 5)
    budget = 17

    def dying(architecture: Architecture) -> Score:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise KeyboardInterrupt
        return quality(architecture)

    with pytest.raises(KeyboardInterrupt):
        fill(name, archive_at(tmp_path / "cut", dying), 5)
    file = tmp_path / "cut" / "scores.jsonl"
    file.write_text(file.read_text()[:-9])  # the last line was cut off by the kill
    scored: list[Architecture] = []
    again = archive_at(tmp_path / "cut", lambda a: (scored.append(a), quality(a))[1])
    fill(name, again, 5)
    assert list(again.entries.items()) == list(whole.entries.items())
    assert len(scored) == 40 - 16


def test_seeds_differ_and_repeat(tmp_path: Path) -> None:
    found = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        archive = archive_at(tmp_path / place)
        fill("evolution", archive, seed)
        found.append(list(archive.entries))
    assert found[0] == found[1] != found[2]


def test_exhaustive_finds_the_best_and_evolution_comes_near(tmp_path: Path) -> None:
    everything, evolved = archive_at(tmp_path / "all"), archive_at(tmp_path / "evo")
    exhaustive(FIELD, everything)
    assert len(everything.entries) == sum(FIELD.allowed(a) for a in SPACE.enumerate())
    fill("evolution", evolved, 0)
    best = everything.ranked()[0]
    assert everything.value(best.architecture) == max(a.count(2) / 4 for a in SPACE.enumerate() if FIELD.allowed(a))
    assert evolved.value(evolved.ranked()[0].architecture) >= 0.75 * everything.value(best.architecture)


def test_evolution_ends_when_nothing_new_is_left(tmp_path: Path) -> None:
    archive = archive_at(tmp_path)
    evolution(FIELD, archive, population=100, generations=10, parents=5, mutation=0.1, seed=0)
    assert len(archive.entries) == sum(FIELD.allowed(a) for a in SPACE.enumerate())


def test_ties_go_to_fewer_macs_then_to_the_smaller_tuple(tmp_path: Path) -> None:
    archive = archive_at(tmp_path, lambda a: Score(0.5, 0.5, 0.0, 0.1))
    exhaustive(FIELD, archive)
    order = [(entry.cost.macs, entry.architecture) for entry in archive.ranked()]
    assert order == sorted(order)


def test_the_objective_decides(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "s", together(quality), TABLE.cost, "accuracy")
    exhaustive(FIELD, archive)
    assert archive.ranked()[0].architecture.count(2) == 0


NAN = {"architecture": [0, 0, 0, 0], **dict.fromkeys(("balanced_accuracy", "accuracy", "worst_class"), 0.5)}


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"architecture": [0, 0, 0, 0], "score": 1}),
        json.dumps(sealed({"architecture": [0, 0, 0, 0], "score": 1})),
        json.dumps(sealed({**NAN, "standard_error": 1.5})),
        json.dumps(sealed({**NAN, "standard_error": None})),
        json.dumps({**NAN, "standard_error": math.nan, "sha256": ""}),
        "[" * 100_000,
    ],
)
def test_a_foreign_score_is_told_by_line_and_found_anew(tmp_path: Path, line: str) -> None:
    whole = archive_at(tmp_path)
    random_search(FIELD, whole, 3, 0)
    file, told = tmp_path / "scores.jsonl", []
    first, *others = file.read_text().splitlines(keepends=True)
    file.write_text("".join([first, line, "\n", *others]))
    again = Archive(file, together(quality), TABLE.cost, "balanced_accuracy", tell=told.append)
    assert told[0].startswith(f"{file}:2: not a whole search score (")
    assert file.read_text() == first
    random_search(FIELD, again, 3, 0)
    assert again.entries == whole.entries
    assert file.read_text() == "".join([first, *others])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31 - 1))
def test_random_search_is_distinct_for_any_seed(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    archive = archive_at(tmp_path_factory.mktemp("s"))
    random_search(FIELD, archive, 12, seed)
    assert len(archive.entries) == 12
    assert all(np.all(np.array(a) < SPACE.choices) for a in archive.entries)
