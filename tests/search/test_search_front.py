"""The front of score, operations and parameters, against the definition."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.search.archive import Entry, Score
from imbnas.search.front import front_table, pareto
from imbnas.spaces.cost import Cost

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=30)


LARGE = 10**18
"""Attojoules: some multiples of it do not fit into 64 bits."""


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


@settings(deadline=None, max_examples=100)
@given(points=st.lists(st.tuples(*[st.integers(0, 3)] * 5), max_size=20), energy=st.sampled_from([1, LARGE * 7]))
def test_latency_and_energy_count_where_they_are_known(points: list[tuple[int, ...]], energy: int) -> None:
    made = [Entry((k,), 0, Score(float(s)), Cost(m, p, t, energy * e)) for k, (s, m, p, t, e) in enumerate(points)]

    def beaten(point: tuple[int, ...]) -> bool:
        better = (one for one in points if one != point and one[0] >= point[0])
        return any(all(a <= b for a, b in zip(one[1:], point[1:], strict=True)) for one in better)

    expected = {k for k, point in enumerate(points) if not beaten(point)}
    assert {entry.architecture[0] for entry in pareto(made)} == expected


def test_the_table_has_a_column_of_each_cost_that_is_known() -> None:
    costs = [Cost(2, 2, energy=3 * 10**9), Cost(1, 1, energy=4 * 10**9)]
    made = [Entry((k,), 0, Score(1.0), cost) for k, cost in enumerate(costs)]
    assert front_table(made, (0,)).to_pydict()["energy_nj"] == [4.0, 3.0]
    timed = [Entry((k,), 0, Score(1.0), Cost(cost.macs, cost.params, 5 * 10**5)) for k, cost in enumerate(costs)]
    assert front_table(timed, (0,)).column_names[6:] == ["latency_ms"]


def test_the_table_marks_the_chosen_one_and_may_be_empty() -> None:
    table = front_table(entries([(3, 2, 2), (1, 1, 1), (0, 4, 4)]), (0,)).to_pylist()
    assert [(row["architecture"], row["chosen"]) for row in table] == [("1", False), ("0", True)]
    assert front_table([], None).num_rows == 0
