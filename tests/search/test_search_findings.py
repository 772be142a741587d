"""The rules of choice, the halves of the rows, and the account of a search, on answers that are written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from imbnas.params.search import SearchParams
from imbnas.search.archive import Archive, Score
from imbnas.search.findings import cheapest, choose, describe, halves, unscored
from imbnas.search.marking import Marking
from imbnas.spaces.cost import Cost
from imbnas.spaces.networks import Architecture

LABELS = np.repeat([0, 1], [20, 10])
MARKING = Marking(LABELS, 2, "balanced_accuracy")
COSTS = {(0,): Cost(900, 50), (1,): Cost(500, 70), (2,): Cost(500, 60), (3,): Cost(100, 10), (4,): Cost(800, 40)}


def answers(wrong: Sequence[int]) -> bytes:
    right = np.ones(30, bool)
    right[list(wrong)] = False
    return MARKING.pack(right)


WRONG: dict[Architecture, Sequence[int]] = {
    (0,): [0, 1, 20],
    # One row more is wrong: a difference of 1/20 / 2, with an error of about as much.
    (1,): [0, 1, 2, 20],
    (2,): [0, 1, 3, 20],
    (3,): [*range(15), *range(20, 28)],
    # As many wrong as the best one, on other rows.
    (4,): [5, 6, 25],
}


def archive(scores: dict[Architecture, Score] | None = None) -> Archive:
    found = scores or {a: MARKING.score(answers(wrong)) for a, wrong in WRONG.items()}
    made = Archive(lambda architectures: ((a, found[a]) for a in architectures), COSTS.__getitem__)
    made.evaluate(list(found), 0)
    return made


def test_the_best_score_is_the_default_and_ties_go_to_fewer_macs() -> None:
    choice = choose(archive(), SearchParams().choose, MARKING)
    assert choice.chosen == choice.best
    assert choice.best.architecture == (4,)
    assert choice.near is not None
    assert choice.near[0] == choice.best
    assert {entry.architecture for entry in choice.near} == {(4,), (0,), (2,), (1,)}


def test_the_cheapest_within_one_error_is_taken() -> None:
    choice = choose(archive(), "cheapest-within-one-error", MARKING)
    assert choice.chosen.architecture == (2,), "of equal MACs fewer parameters"
    assert choice.best.architecture == (4,)
    assert (3,) not in {entry.architecture for entry in choice.near or []}


def test_latency_and_then_energy_come_before_macs() -> None:
    costs = {
        (0,): Cost(900, 50, latency=2, energy=1),
        (1,): Cost(100, 50, latency=2, energy=5),
        (2,): Cost(100, 50, latency=3, energy=1),
    }
    made = Archive(lambda architectures: ((a, Score(1.0)) for a in architectures), costs.__getitem__)
    made.evaluate(list(costs), 0)
    assert [entry.architecture for entry in made.ranked()] == [(0,), (1,), (2,)]
    assert cheapest(list(made.entries.values())).architecture == (0,)
    assert [made.price(one) for one in costs] == [2, 2, 3]
    untimed = Archive(made._score, lambda one: replace(costs[one], latency=0))
    untimed.evaluate(list(costs), 0)
    assert [entry.architecture for entry in untimed.ranked()] == [(2,), (0,), (1,)]
    assert [untimed.price(one) for one in costs] == [1, 5, 1]
    found = describe(untimed, choose(untimed, "best", None), "best", None, 0)
    assert "tau_energy" in found
    assert "tau_latency" not in found
    assert found["chosen"]["energy_nj"] == pytest.approx(1e-9)


def test_nearness_is_of_the_paired_difference() -> None:
    # Both lose a row to the best; one shares all other answers with it, so that its difference is sure.
    labels = np.zeros(1000, np.int64)
    marking = Marking(labels, 1, "accuracy")

    def right(wrong: range) -> bytes:
        return marking.pack(~np.isin(np.arange(1000), wrong))

    scores = {
        (0,): marking.score(right(range(100))),
        (1,): marking.score(right(range(109))),
        (2,): marking.score(right(range(500, 609))),
    }
    made = Archive(lambda architectures: ((a, scores[a]) for a in architectures), COSTS.__getitem__)
    made.evaluate(list(scores), 0)
    assert scores[(1,)].value == scores[(2,)].value
    near = {entry.architecture for entry in choose(made, "best", marking).near or []}
    assert near == {(0,), (2,)}, "9 rows in 209 may be chance, 9 in 9 are not"


def test_without_rows_the_best_is_chosen_and_nobody_is_near() -> None:
    made = archive({(0,): Score(1.0), (1,): Score(2.0), (2,): Score(2.0)})
    choice = choose(made, "best", None)
    assert (choice.chosen.architecture, choice.near) == ((1,), None)
    found = describe(made, choice, "best", None, 0)
    assert found["within_one_error"] is found["halves"] is None
    assert found["tau_macs"] == pytest.approx(-1.0)
    assert found.keys() == unscored().keys()


@pytest.mark.parametrize("counts", [[7, 7, 7, 7], [1, 2, 3], [10, 0, 5], [1, 1]])
def test_halves_share_each_class(counts: list[int]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    first, second = halves(labels, 3)
    assert sorted([*first, *second]) == list(range(sum(counts)))
    assert abs(len(first) - len(second)) <= 1
    for label in range(len(counts)):
        assert abs(int((labels[first] == label).sum()) - int((labels[second] == label).sum())) <= 1
    assert sum(counts) < 10 or not np.array_equal(first, halves(labels, 4)[0])
    assert np.array_equal(first, halves(labels, 3)[0])


def test_the_account_of_rows() -> None:
    made = archive()
    found = describe(made, choose(made, "best", MARKING), "best", MARKING, 0)
    assert found["halves"]["rows"] == [15, 15]
    assert found["within_one_error"]["cheapest"]["architecture"] == [2]
    assert found["within_one_error"]["cheapest"]["difference"] == pytest.approx(0.025)
    assert found["evaluated"] == 5


def test_candidates_that_differ_on_every_row_alike_agree_in_both_halves() -> None:
    labels = np.tile(np.arange(2), 50)
    marking = Marking(labels, 2, "accuracy")
    rng = np.random.default_rng(0)
    hardness = rng.random(100)
    scores = {(k,): marking.score(marking.pack(hardness < 0.1 + 0.2 * k)) for k in range(5)}
    made = Archive(lambda architectures: ((a, scores[a]) for a in architectures), COSTS.__getitem__)
    made.evaluate(list(scores), 0)
    assert describe(made, choose(made, "best", marking), "best", marking, 0)["halves"]["tau"] == 1.0
