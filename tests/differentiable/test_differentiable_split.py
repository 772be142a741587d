"""The halves of a bilevel search and their endless batches."""

from __future__ import annotations

import numpy as np
import pytest

from imbnas.differentiable.split import blind_halves, make_feed, stratified_halves
from imbnas.errors import UserError

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


def test_batches_go_on_over_the_end_of_an_epoch_and_do_not_repeat_the_first_one() -> None:
    rows = stratified_halves(LABELS, 0.1, 0)[0]
    feed = make_feed(LABELS, rows, "instance", 64, 0, "weights")
    assert feed.length == -(-len(rows) // 64)
    passes = feed.batches(0, 3 * feed.length)
    for number in range(3):
        seen = np.concatenate(passes[number * feed.length : (number + 1) * feed.length])
        assert sorted(seen.tolist()) == rows.tolist()
    assert not np.array_equal(passes[0], passes[feed.length])
    tail = feed.batches(feed.length - 1, feed.length + 2)
    assert all(np.array_equal(a, b) for a, b in zip(tail, passes[feed.length - 1 :], strict=False))


@pytest.mark.parametrize(
    ("sampling", "power"), [("instance", 1.0), ("square-root", 0.5), ("balanced", 0.0), ("reversed", -1.0)]
)
def test_samplers_draw_classes_as_their_names_say(sampling: str, power: float) -> None:
    feed = make_feed(LABELS, np.arange(len(LABELS)), sampling, 256, 0, "weights")  # type: ignore[arg-type]
    drawn = LABELS[np.concatenate(feed.batches(0, 8 * feed.length))]
    shares = np.bincount(drawn, minlength=10) / len(drawn)
    expected = np.array(COUNTS, dtype=float) ** power
    # Eight epochs are 99 248 draws: four standard deviations.
    error = 4.0 * np.sqrt(0.25 / len(drawn))
    assert np.abs(shares - expected / expected.sum()).max() < error
