from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.data.partition import draw, few, hold_out, share_rows, source_parts, target_parts
from imbnas.errors import UserError
from imbnas.seeds import stream


def names(count):
    return [f"c{k}" for k in range(count)]


@st.composite
def pools(draw_from):
    """Labels, first occurrences and number of classes of a pool in which some images occur several times."""
    generator = np.random.default_rng(draw_from(st.integers(0, 999)))
    classes = draw_from(st.integers(2, 6))
    content = generator.permutation(np.repeat(np.arange(classes * 60), generator.integers(1, 4, classes * 60)))
    _, first, inverse = np.unique(content, return_index=True, return_inverse=True)
    return content % classes, first[inverse], classes, content


@given(
    pool=pools(),
    share=st.floats(0.1, 0.7),
    fraction=st.floats(0.1, 0.4),
    per_class=st.integers(0, 5),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_no_image_is_in_two_splits(pool, share, fraction, per_class, seed):
    labels, first, classes, content = pool
    source = source_parts(labels, first, names(classes), share, max(1, per_class), seed)
    target = target_parts(
        labels,
        first,
        names(classes),
        source_share=share,
        source_seed=seed,
        test_fraction=fraction,
        per_class=per_class,
        seed=seed,
    )
    parts = [source.train, source.validation, target.train, target.validation, target.test]
    seen: set[int] = set()
    for rows in parts:
        assert (np.diff(rows) > 0).all()
        images = set(content[rows].tolist())
        assert not images & seen
        seen |= images
    assert (source.dropped, target.dropped) == (0, 0)
    # Every image is in some split: only copies of held-out images are left out.
    assert len(seen) == classes * 60
    for rows in (source.validation, target.validation, target.test):
        assert len(set(content[rows].tolist())) == len(rows)
    for part, wanted in ((source, max(1, per_class)), (target, per_class)):
        left = np.concatenate([np.unique(content[part.train]), content[part.validation]]) % classes
        quota = np.minimum(wanted, np.bincount(left, minlength=classes) // 4)
        np.testing.assert_array_equal(np.bincount(labels[part.validation], minlength=classes), quota)


def test_sizes_per_class():
    labels = np.repeat(np.arange(3), [100, 11, 40])
    first = np.arange(151)
    source = source_parts(labels, first, names(3), 0.29, 2, 0)
    assert np.bincount(labels[source.train]).tolist() == [27, 3, 9]
    target = target_parts(
        labels, first, names(3), source_share=0.29, source_seed=0, test_fraction=0.25, per_class=1, seed=0
    )
    assert np.bincount(labels[target.test]).tolist() == [18, 2, 7]
    assert np.bincount(labels[target.train]).tolist() == [52, 5, 21]


def test_without_a_draw_all_rows_stay_in_order():
    labels = np.arange(1000) % 10
    first = np.arange(1000)
    first[500] = 0
    parts = target_parts(
        labels, first, names(10), source_share=None, source_seed=0, test_fraction=None, per_class=0, seed=0
    )
    np.testing.assert_array_equal(parts.train, np.arange(1000))
    assert len(parts.validation) == len(parts.test) == 0


def test_share_is_the_same_in_both_steps():
    labels = np.random.default_rng(0).integers(0, 4, 400)
    first = np.arange(400)
    source = source_parts(labels, first, names(4), 0.5, 3, 7)
    options = {"test_fraction": None, "per_class": 0}
    target = target_parts(labels, first, names(4), source_share=0.5, source_seed=7, seed=8, **options)
    together = np.sort(np.concatenate([source.train, source.validation, target.train]))
    np.testing.assert_array_equal(together, np.arange(400))
    other = source_parts(labels, first, names(4), 0.5, 3, 8)
    assert not np.array_equal(source.validation, other.validation)


def test_share_of_a_tiny_class_is_one_row():
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert np.bincount(labels[share_rows(labels, 2, 0.1, 0)]).tolist() == [1, 1]
    assert len(share_rows(labels, 2, 1.0, 0)) == 6


def test_share_draw_is_fixed():
    # A change here moves rows between source and target of everyone's earlier runs.
    assert stream(0, "splits", "share").integers(0, 1000, 4).tolist() == [693, 127, 495, 459]
    assert share_rows(np.arange(20) % 2, 2, 0.3, 0).tolist() == [1, 3, 6, 7, 12, 16]


@given(sizes=st.lists(st.integers(0, 30), min_size=2, max_size=6), seed=st.integers(0, 9))
@settings(deadline=None)
def test_draw_takes_exactly_the_quota(sizes, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    quota = np.random.default_rng(seed).integers(0, 20, len(sizes))
    chosen = draw(labels, quota, np.random.default_rng(seed))
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(labels[chosen], minlength=len(sizes)).tolist() == np.minimum(quota, sizes).tolist()


def test_draw_is_uniform():
    labels = np.zeros(20, dtype=np.int64)
    hits = np.zeros(20)
    for seed in range(4000):
        hits[draw(labels, np.array([5]), np.random.default_rng(seed))] += 1
    # Each row is drawn with chance 1/4: 1000 times, standard deviation 27.
    assert abs(hits - 1000).max() < 5 * 27.4


def test_hold_out_rounds_up_and_leaves_one():
    assert hold_out(np.array([100, 11, 10, 2]), 0.1, names(4)).tolist() == [10, 2, 1, 1]
    with pytest.raises(UserError, match=r"target\.validation\.fraction: 0\.1 takes 1 of the 1 rows of class 'c1'"):
        hold_out(np.array([100, 1]), 0.1, names(2))


WAYS = "add images of the class, take the class out of the dataset"
TEST = "name published test images (target.splits.test)"
SOURCE = "take another source (source.dataset and root; with supernet.epochs 0 its images do not matter)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"source_share": 0.5},
            "source.share: class 'c1' has 1 distinct image, of which the source has 1, expected at least 1 for "
            f"training besides: {WAYS} or {SOURCE}",
        ),
        (
            {"test_fraction": 0.25},
            "target.test_fraction: class 'c1' has 1 distinct image, expected at least 2 for training and the test "
            f"split: {WAYS} or {TEST}",
        ),
        (
            {"test_fraction": 0.25, "taken": np.arange(10) == 9},
            "source.share: class 'c1' has 1 distinct image, of which the source has 1, expected at least 2 for "
            f"training and the test split besides: {WAYS}, {TEST} or {SOURCE}",
        ),
        ({"per_class": 1}, None),
    ],
)
def test_a_class_of_one_image_is_told_every_way_out(arguments, message):
    labels = np.array([0] * 9 + [1])
    options = {"source_share": None, "source_seed": 0, "test_fraction": None, "per_class": 0, **arguments}
    if message is None:
        parts = target_parts(labels, np.arange(10), names(2), seed=0, **options)
        assert labels[parts.validation].tolist() == [0]
        assert 9 in parts.train
        return
    with pytest.raises(UserError) as caught:
        target_parts(labels, np.arange(10), names(2), seed=0, **options)
    assert str(caught.value).startswith(message)


def test_a_quarter_of_a_class_is_reserved_where_that_is_less():
    labels = np.repeat(np.arange(4), [8, 3, 100, 40])
    parts = target_parts(
        labels, np.arange(151), names(4), source_share=None, source_seed=0, test_fraction=None, per_class=10, seed=0
    )
    assert np.bincount(labels[parts.validation], minlength=4).tolist() == [2, 0, 10, 10]
    assert "2 of 4 classes have fewer than 5 validation rows, class 'c1' 0" in str(
        few(labels[parts.validation], names(4))
    )
    assert few(np.repeat([0, 1], 5), names(2)) is None
    assert few(np.zeros(0, dtype=np.int64), names(2)) is None


def test_where_no_row_can_be_reserved_that_is_refused():
    labels = np.repeat([0, 1], [3, 2])
    with pytest.raises(
        UserError, match=r"target\.validation\.per_class: 4 rows of each class.* no class has more than 3"
    ):
        target_parts(
            labels, np.arange(5), names(2), source_share=None, source_seed=0, test_fraction=None, per_class=4, seed=0
        )
    with pytest.raises(
        UserError, match=r"source\.validation\.per_class: 10 rows of each class.* no class has more than 2"
    ):
        source_parts(labels, np.arange(5), names(2), 0.9, 10, 0)


@given(pool=pools(), share=st.floats(0.0, 0.6), fraction=st.floats(0.1, 0.4), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_what_the_source_has_is_in_no_split_and_counted(pool, share, fraction, seed):
    labels, first, classes, content = pool
    known = np.random.default_rng(seed).random(classes * 60) < share
    taken = known[content]
    target = target_parts(
        labels,
        first,
        names(classes),
        source_share=None,
        source_seed=0,
        test_fraction=fraction,
        per_class=3,
        seed=seed,
        taken=taken,
    )
    used = np.concatenate([target.train, target.validation, target.test])
    assert not taken[used].any()
    assert target.dropped == taken.sum()
    assert set(content[used].tolist()) == set(np.flatnonzero(~known).tolist())
