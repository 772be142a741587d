"""The front of score, operations and parameters, against the definition."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.search.archive import Entry, Score
from imbnas.search.front import front_table, pareto
from imbnas.spaces.cost import Cost

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=30)


def entries(points: list[tuple[int, int, int]]) -> list[Entry]:
    return [Entry((k,), 0, Score(float(score)), Cost(m, p)) for k, (score, m, p) in enumerate(points)]


def dominates(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return one != other and one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2]


@settings(deadline=None, max_examples=300)
@given(points=POINTS)
def test_the_front_is_what_nobody_dominates(points: list[tuple[int, int, int]]) -> None:
    expected = {k for k, point in enumerate(points) if not any(dominates(other, point) for other in points)}
    found = pareto(entries(points))
    assert {entry.architecture[0] for entry in found} == expected
    assert len(found) == len(expected)
    costs = [(entry.cost.macs, entry.cost.params) for entry in found]
    assert costs == sorted(costs)


def test_the_table_marks_the_chosen_one_and_may_be_empty() -> None:
    table = front_table(entries([(3, 2, 2), (1, 1, 1), (0, 4, 4)]), (0,)).to_pylist()
    assert [(row["architecture"], row["chosen"]) for row in table] == [("1", False), ("0", True)]
    assert front_table([], None).num_rows == 0
