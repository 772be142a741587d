"""Groups: no draw parts one, class balance is kept as well as groups allow, and images in common join them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.data.grouping import draw_groups, joined, numbered
from imbnas.data.partition import source_parts, target_parts
from imbnas.data.published_rows import published_validation
from imbnas.data.raw import Raw
from imbnas.errors import UserError

CLASSES = ["ant", "bee", "cat"]


@st.composite
def rows_of_groups(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, groups and first occurrences: each class has 16 small groups of its own, others are mixed."""
    labels = [label for label in range(3) for _ in range(16)]
    groups = list(range(48))
    extra = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60)), max_size=60))
    labels += [label for label, _ in extra]
    groups += [group for _, group in extra]
    first = list(range(len(labels)))
    for copy in draw(st.lists(st.integers(1, len(labels) - 1), max_size=6)):
        # A copy has the label of its first occurrence.
        earlier = next((row for row in range(copy) if labels[row] == labels[copy] and first[row] == row), copy)
        if not any(one == copy for one in first[copy + 1 :]):
            first[copy] = earlier
    return np.array(labels), np.array(groups), np.array(first)


@settings(max_examples=40, deadline=None)
@given(rows_of_groups(), st.integers(0, 5), st.booleans(), st.booleans())
def test_no_group_crosses_splits(
    rows: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int, shared: bool, own_test: bool
) -> None:
    labels, given_groups, first = rows
    groups = numbered(joined(first, [f"g{group}" for group in given_groups]))
    source = source_parts(labels, first, CLASSES, share=0.3, per_class=2, seed=seed, groups=groups)
    target = target_parts(
        labels,
        first,
        CLASSES,
        source_share=0.3 if shared else None,
        source_seed=seed,
        test_fraction=0.25 if own_test else None,
        per_class=2,
        seed=seed + 1,
        groups=groups,
    )
    parts = [target.train, target.validation, target.test]
    parts += [np.concatenate([source.train, source.validation])] if shared else []
    held = [set(groups[part].tolist()) for part in parts]
    # The user's own groups, too, not only the joined ones.
    named = [set(given_groups[part].tolist()) for part in parts]
    for one in range(len(parts)):
        for other in range(one):
            assert not held[one] & held[other]
            assert not named[one] & named[other]
    assert not set(groups[source.train].tolist()) & set(groups[source.validation].tolist())
    assert set(labels[target.train].tolist()) == {0, 1, 2}
    if own_test:
        assert set(labels[target.test].tolist()) == {0, 1, 2}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), min_size=12, max_size=60), st.integers(0, 9))
def test_classes_come_as_near_to_their_quotas_as_groups_allow(sizes: list[tuple[int, int]], seed: int) -> None:
    sizes = [(label, 2) for label in range(3) for _ in range(4)] + sizes
    labels = np.concatenate([np.full(rows, label) for label, rows in sizes])
    groups = np.concatenate([np.full(rows, group) for group, (_, rows) in enumerate(sizes)])
    total = np.bincount(labels)
    quota = np.maximum(1, total // 4)
    drawn = draw_groups(labels, groups, quota, np.random.default_rng(seed))
    found = np.bincount(labels[drawn], minlength=3)
    largest = [max(rows for label, rows in sizes if label == k) for k in range(3)]
    assert np.all(np.abs(found - quota) <= np.array(largest) / 2 + 1)


def test_groups_of_one_row_fill_quotas_exactly_and_at_random() -> None:
    labels = np.repeat([0, 1], [50, 10])
    quota = np.array([12, 3])
    draws = [draw_groups(labels, np.arange(60), quota, np.random.default_rng(seed)) for seed in range(3)]
    assert all(np.bincount(labels[drawn]).tolist() == [12, 3] for drawn in draws)
    assert draws[0].tolist() != draws[1].tolist()
    assert np.array_equal(draws[0], draw_groups(labels, np.arange(60), quota, np.random.default_rng(0)))


def test_large_groups_are_drawn_where_a_class_has_no_others() -> None:
    labels = np.repeat([0, 1], [40, 100])
    groups = np.concatenate([np.repeat([0, 1], 20), np.arange(2, 102)])
    drawn = draw_groups(labels, groups, np.array([10, 25]), np.random.default_rng(1))
    assert np.bincount(labels[drawn]).tolist() == [20, 25]


def test_groups_with_an_image_in_common_are_one() -> None:
    first = np.array([0, 1, 2, 0, 4, 5])
    assert joined(first, ["a", "a", "b", "b", "c", "d"]) == ["a", "a", "a", "a", "c", "d"]


def test_a_class_of_one_group_is_refused() -> None:
    labels = np.repeat([0, 1], 8)
    groups = np.concatenate([np.zeros(8, int), np.arange(1, 9)])
    first = np.arange(16)
    with pytest.raises(UserError, match=r"^source\.share: class 'ant' has its images in 1 group, none of which"):
        source_parts(labels, first, CLASSES[:2], share=0.5, per_class=1, seed=0, groups=groups)
    options = {"source_share": None, "source_seed": 0, "per_class": 1, "seed": 0, "groups": groups}
    with pytest.raises(UserError, match=r"^target\.test_fraction: class 'ant' has its images in 1 group"):
        target_parts(labels, first, CLASSES[:2], test_fraction=0.25, **options)
    published = target_parts(labels, first, CLASSES[:2], test_fraction=None, **options)
    assert set(labels[published.train].tolist()) == {0, 1}


def test_a_group_with_an_image_of_the_source_is_left_to_it() -> None:
    labels, groups = np.zeros(12, int), np.repeat(np.arange(6), 2)
    taken = np.zeros(12, bool)
    taken[4] = True
    parts = target_parts(
        labels,
        np.arange(12),
        ["ant"],
        source_share=None,
        source_seed=0,
        test_fraction=0.25,
        per_class=2,
        seed=0,
        taken=taken,
        groups=groups,
    )
    assert parts.dropped == 2
    assert not {4, 5} & {*parts.train.tolist(), *parts.validation.tolist(), *parts.test.tolist()}


def split_of(split: str, groups: list[int]) -> Raw:
    """Return rows of a published split, whose groups no other split names."""
    return Raw(np.zeros(len(groups), int), CLASSES, None, None, Path(), groups=[f"{split} {g}" for g in groups])


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=1, max_size=12)
"""Group and content of each row: contents repeat within splits and across them."""


@settings(max_examples=50, deadline=None)
@given(ROWS, ROWS, st.none() | ROWS, st.sets(st.integers(0, 25), max_size=3))
def test_no_group_of_published_validation_rows_is_parted_or_elsewhere(
    train: list[tuple[int, int]],
    validation: list[tuple[int, int]],
    test: list[tuple[int, int]] | None,
    source: set[int],
) -> None:
    splits = {"train": train, "validation": validation, "test": test}
    raws = {name: None if rows is None else split_of(name, [g for g, _ in rows]) for name, rows in splits.items()}
    keys = {name: np.array([key for _, key in rows]) for name, rows in splits.items() if rows is not None}
    left_out = np.isin(keys["validation"], list(source))
    # An image has all its groups, and a group all its images: what the kept rows can reach by either.
    every = [(f"{name} {group}", key) for name, rows in splits.items() for group, key in rows or ()]
    linked = {row: {f"validation {group}"} for row, (group, _) in enumerate(validation)}
    for reached in linked.values():
        before = 0
        while len(reached) > before:
            before = len(reached)
            images = {key for name, key in every if name in reached}
            reached |= {name for name, key in every if key in images}
    expected = []
    for row, reached in linked.items():
        images = {key for name, key in every if name in reached}
        if not images & source and all(name.startswith("validation") for name in reached):
            expected.append(row)
    if not expected:
        with pytest.raises(UserError, match=r"^target\.splits\.validation: all \d+ rows are in the source or the test"):
            published_validation(left_out, keys, raws)
        return
    kept = published_validation(left_out, keys, raws)
    assert kept.tolist() == expected


def test_without_groups_published_validation_rows_go_by_their_own_content() -> None:
    raw = Raw(np.zeros(3, int), CLASSES, None, None, Path())
    keys = {"train": np.array([7, 8, 9]), "validation": np.array([7, 1, 2])}
    kept = published_validation(np.array([False, True, False]), keys, {"train": raw, "validation": raw, "test": None})
    assert kept.tolist() == [0, 2]
