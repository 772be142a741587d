"""The halves of a bilevel search and their endless batches."""

from __future__ import annotations

import numpy as np
import pytest

from imbnas.data.order import InstanceSampler
from imbnas.differentiable.calendar import Calendar
from imbnas.differentiable.feeds import Feed, blind_halves, stratified_halves
from imbnas.errors import UserError
from imbnas.params.differentiable import DartsParams
from imbnas.params.longtail import SamplerParams
from imbnas.steps.search_feeds import joined_feeds, make_feeds

COUNTS = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), COUNTS))


def test_every_class_is_split_by_its_share() -> None:
    weights, architecture = stratified_halves(LABELS, 0.5, 0)
    assert sorted(np.concatenate([weights, architecture]).tolist()) == list(range(len(LABELS)))
    found = np.bincount(LABELS[weights])
    assert found.tolist() == [int(n * 0.5 + 0.5) for n in COUNTS]
    assert found[-1] == 25
    assert not np.array_equal(weights, stratified_halves(LABELS, 0.5, 1)[0])
    tiny = np.array([0, 0, 0, 1, 1])
    for share in (0.01, 0.99):
        assert all(set(tiny[half]) == {0, 1} for half in stratified_halves(tiny, share, 0))
    with pytest.raises(UserError, match="class 1 has 1 training row"):
        stratified_halves(np.array([0, 0, 1]), 0.5, 0)


def test_the_blind_split_knows_the_number_of_rows_only() -> None:
    weights, architecture = blind_halves(101, 0.5, 3)
    assert (len(weights), len(architecture)) == (51, 50)
    assert sorted([*weights, *architecture]) == list(range(101))


def test_batches_change_with_the_epoch_and_begin_anew_when_they_run_out() -> None:
    rows = stratified_halves(LABELS, 0.1, 0)[0]
    feed = Feed(rows, InstanceSampler(LABELS[rows], 5), 64)
    assert feed.length == -(-len(rows) // 64)
    first = feed.batches(0, 0, feed.length)
    assert sorted(np.concatenate(first).tolist()) == rows.tolist()
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], feed.batches(1, 0, 1)[0])
    tail = feed.batches(0, feed.length - 1, feed.length + 2)
    assert [part.tolist() for part in tail] == [part.tolist() for part in (first[-1], first[0], first[1])]


def test_redrawn_rows_show_the_weights_all_and_never_those_of_the_architecture() -> None:
    params = DartsParams(split="redrawn", share=0.85, epochs=40, sampler=SamplerParams(name="class-balanced"))
    (inner,), (outer,) = make_feeds(params, LABELS, 1, False, 0)
    seen, sizes = np.zeros(len(LABELS), dtype=bool), np.bincount(LABELS[inner.rows])
    for epoch in range(params.epochs):
        weights, architecture = inner.rows_of(epoch), outer.rows_of(epoch)
        assert np.intersect1d(weights, architecture).size == 0
        assert len(weights) + len(architecture) == len(LABELS)
        # The sampler was made for the labels of the first epoch.
        assert np.array_equal(LABELS[weights], LABELS[inner.rows])
        assert np.array_equal(LABELS[architecture], LABELS[outer.rows])
        assert set(np.concatenate(inner.batches(epoch, 0, 3))) <= set(weights)
        seen[weights] = True
    assert seen.all()
    assert not np.array_equal(inner.rows_of(0), inner.rows_of(1))
    assert sizes.tolist() == [int(n * 0.85 + 0.5) for n in COUNTS]
    (joined,) = joined_feeds(params.model_copy(update={"sampler": SamplerParams()}), LABELS, 0)
    assert sorted(np.concatenate(joined.batches(0, 0, joined.length))) == list(range(len(LABELS)))
    fixed = make_feeds(params.model_copy(update={"split": "fixed"}), LABELS, 1, False, 0)
    assert np.array_equal(fixed[0][0].rows_of(0), fixed[0][0].rows_of(7))


def test_epochs_are_longer_once_all_rows_are_joined() -> None:
    calendar = Calendar(before=3, after=5, frozen=2, epochs=4)
    assert calendar.steps == 16
    assert [calendar.epoch(step) for step in range(17)] == [0] * 3 + [1] * 3 + [2] * 5 + [3] * 5 + [4]
    assert [calendar.begin(epoch) for epoch in range(5)] == [0, 3, 6, 11, 16]
    assert [calendar.length(epoch) for epoch in range(4)] == [3, 3, 5, 5]
