from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.errors import UserError
from imbnas.longtail.shots import Thresholds, make_rule, rule_text, shot_groups, thresholds_of

BOUNDARY = [19, 20, 21, 99, 100, 101]


def longtail(n_max, classes, factor):
    return [int(n_max * (1 / factor) ** (k / (classes - 1))) for k in range(classes)]


def sizes(counts, rule):
    groups = Counter(shot_groups(counts, rule))
    return groups["many"], groups["medium"], groups["few"]


def test_boundary_counts():
    assert shot_groups(BOUNDARY, "kang") == ["few", "medium", "medium", "medium", "medium", "many"]
    assert shot_groups(BOUNDARY, "oltr") == ["few", "few", "medium", "medium", "many", "many"]
    assert shot_groups(BOUNDARY, "thirds") == ["few", "few", "medium", "medium", "many", "many"]
    assert shot_groups(BOUNDARY, Thresholds(99, 20)) == ["few", "medium", "medium", "medium", "many", "many"]


@pytest.mark.parametrize(
    ("factor", "cifar100", "cifar10"),
    [
        (10, (69, 31, 0), (10, 0, 0)),
        (20, (53, 47, 0), (10, 0, 0)),
        (50, (41, 41, 18), (9, 1, 0)),
        (100, (35, 35, 30), (8, 2, 0)),
        (200, (30, 31, 39), (7, 3, 0)),
        (256, (29, 29, 42), (7, 2, 1)),
        (500, (26, 26, 48), (6, 2, 2)),
    ],
)
def test_published_group_sizes(factor, cifar100, cifar10):
    assert sizes(longtail(500, 100, factor), "kang") == cifar100
    assert sizes(longtail(5000, 10, factor), "kang") == cifar10


def test_other_rules_on_cifar100_lt():
    counts = longtail(500, 100, 100)
    assert sizes(counts, "oltr") == (35, 34, 31)
    assert sizes(counts, "thirds") == (33, 33, 34)
    assert shot_groups(counts, "thirds")[32:34] == ["many", "medium"]


def test_thirds_of_equal_and_of_few_classes():
    assert shot_groups([5, 5, 5, 5], "thirds") == ["many", "medium", "few", "few"]
    assert shot_groups([5, 9], "thirds") == ["few", "few"]
    assert shot_groups([1, 3, 2], "thirds") == ["few", "many", "medium"]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=3, max_size=30),
    st.sampled_from(["kang", "oltr", "thirds", Thresholds(50, 51), Thresholds(7, 0)]),
)
def test_more_rows_never_mean_a_lower_group(counts, rule):
    level = {"many": 2, "medium": 1, "few": 0}
    groups = [level[g] for g in shot_groups(counts, rule)]
    ordered = [g for _, g in sorted(zip(counts, groups, strict=True), key=lambda pair: pair[0])]
    if rule == "thirds":
        assert sizes(counts, rule)[:2] == (len(counts) // 3,) * 2
        assert all(
            groups[i] <= groups[j] for i in range(len(counts)) for j in range(len(counts)) if counts[i] < counts[j]
        )
    else:
        assert ordered == sorted(ordered)


def test_rule_in_words():
    assert rule_text("kang") == "many: more than 100 training rows, medium: 20 to 100, few: fewer than 20 (kang)"
    assert rule_text("oltr") == "many: more than 99 training rows, medium: 21 to 99, few: fewer than 21 (oltr)"
    assert rule_text(Thresholds(9, 3)) == "many: more than 9 training rows, medium: 3 to 9, few: fewer than 3 (custom)"
    assert rule_text("thirds") == "thirds of the classes ranked by training rows"


def test_rules_by_name():
    assert make_rule("custom", 9, 3) == Thresholds(9, 3)
    assert (make_rule("kang", 9, 3), make_rule("thirds", 9, 3)) == ("kang", "thirds")
    assert thresholds_of("kang") == Thresholds(100, 20)
    assert thresholds_of("oltr") == Thresholds(99, 21)
    assert thresholds_of("thirds") is None
    with pytest.raises(UserError, match="'quarters', expected kang"):
        make_rule("quarters", 9, 3)


def test_bad_rules():
    for function in (lambda: shot_groups([1], "quarters"), lambda: rule_text("quarters")):
        with pytest.raises(UserError, match="'quarters', expected kang, oltr, thirds"):
            function()
    with pytest.raises(UserError, match="many above 10 and few below 12"):
        Thresholds(10, 12)
    with pytest.raises(UserError, match="class counts"):
        shot_groups([1, -1], "kang")
