from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.data.splits import draw, hold_out, share_rows, source_parts, target_parts
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
    # Every image is in some split: only copies of held-out images are left out.
    assert len(seen) == classes * 60
    for rows in (source.validation, target.validation, target.test):
        assert len(set(content[rows].tolist())) == len(rows)
    assert np.bincount(labels[source.validation], minlength=classes).tolist() == [max(1, per_class)] * classes
    assert np.bincount(labels[target.validation], minlength=classes).tolist() == [per_class] * classes


def test_sizes_per_class():
    labels = np.repeat(np.arange(3), [100, 11, 40])
    first = np.arange(151)
    source = source_parts(labels, first, names(3), 0.29, 2, 0)
    assert np.bincount(labels[source.train]).tolist() == [27, 1, 9]
    target = target_parts(labels, first, names(3), source_share=0.29, test_fraction=0.25, per_class=1, seed=0)
    assert np.bincount(labels[target.test]).tolist() == [18, 2, 7]
    assert np.bincount(labels[target.train]).tolist() == [52, 5, 21]


def test_without_a_draw_all_rows_stay_in_order():
    labels = np.arange(1000) % 10
    first = np.arange(1000)
    first[500] = 0
    parts = target_parts(labels, first, names(10), source_share=None, test_fraction=None, per_class=0, seed=0)
    np.testing.assert_array_equal(parts.train, np.arange(1000))
    assert len(parts.validation) == len(parts.test) == 0


def test_share_is_the_same_in_both_steps():
    labels = np.random.default_rng(0).integers(0, 4, 400)
    first = np.arange(400)
    source = source_parts(labels, first, names(4), 0.5, 3, 7)
    target = target_parts(labels, first, names(4), source_share=0.5, test_fraction=None, per_class=0, seed=7)
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source_share": 0.5}, r"source\.share: class 'c1' has 0 distinct images after the source took 0.5"),
        ({"test_fraction": 0.25}, r"target\.test_fraction: 0.25 takes 1 of the 1 rows of class 'c1'"),
        ({"per_class": 1}, r"target\.validation\.per_class: 1 rows of each class, but class 'c1' has 1 distinct"),
    ],
)
def test_small_classes_are_named(arguments, message):
    labels = np.array([0] * 9 + [1])
    options = {"source_share": None, "test_fraction": None, "per_class": 0, **arguments}
    with pytest.raises(UserError, match=message):
        target_parts(labels, np.arange(10), names(2), seed=0, **options)


def test_source_validation_must_leave_training_rows():
    labels = np.repeat([0, 1], [40, 20])
    with pytest.raises(UserError, match=r"source\.validation\.per_class: 10 rows .* class 'c1' has 10 distinct"):
        source_parts(labels, np.arange(60), names(2), 0.5, 10, 0)
