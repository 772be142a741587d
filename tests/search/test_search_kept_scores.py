"""Kept scores: nothing is scored twice, by nobody; what is damaged is found anew; each run writes its own file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from imbnas.sealed import sealed
from imbnas.search.kept_scores import KeptScores, number_coding
from imbnas.spaces.networks import Architecture

ALL: list[Architecture] = [(k, k) for k in range(6)]


def scoring(calls: list[Architecture], budget: int = 99) -> Callable[[Sequence[Architecture]], Iterable]:
    def score(architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, float]]:
        for architecture in sorted(architectures):
            if len(calls) >= budget:
                raise KeyboardInterrupt
            calls.append(architecture)
            yield architecture, 0.5 + architecture[0]

    return score


def kept(base: Path, run: str, calls: list[Architecture], **options: object) -> KeptScores[float]:
    return KeptScores(base, run, scoring(calls), number_coding(), **options)  # type: ignore[arg-type]


def test_another_run_finds_what_the_first_has_scored(tmp_path: Path) -> None:
    first: list[Architecture] = []
    second: list[Architecture] = []
    assert dict(kept(tmp_path / "k", "a", first)(ALL[:4])) == {a: 0.5 + a[0] for a in ALL[:4]}
    seconds: list[tuple[float, bool]] = []
    again = kept(tmp_path / "k", "b", second, reused=lambda spent, own: seconds.append((spent, own)))
    found = dict(again(ALL))
    assert found == {a: 0.5 + a[0] for a in ALL}
    assert (first, second) == (ALL[:4], ALL[4:])
    assert [own for _, own in seconds] == [False] * 4
    list(again(ALL))
    assert len(seconds) == 4, "what was used is counted once"
    assert {path.name for path in tmp_path.iterdir()} == {"k.a.jsonl", "k.b.jsonl"}
    third: list[Architecture] = []
    list(kept(tmp_path / "other", "a", third)(ALL))
    assert third == ALL, "scores of something else are not these"


def test_a_killed_run_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    calls: list[Architecture] = []
    cut = KeptScores(tmp_path / "k", "a", scoring(calls, 3), number_coding())
    with pytest.raises(KeyboardInterrupt):
        list(cut(ALL))
    file = tmp_path / "k.a.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    again: list[Architecture] = []
    own: list[bool] = []
    found = dict(kept(tmp_path / "k", "a", again, reused=lambda spent, mine: own.append(mine))(ALL))
    assert again == ALL[2:]
    assert own == [True, True]
    assert found == {a: 0.5 + a[0] for a in ALL}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [tuple(line["architecture"]) for line in lines] == ALL


def test_another_runs_half_line_is_left_alone(tmp_path: Path) -> None:
    list(kept(tmp_path / "k", "a", [])(ALL))
    file = tmp_path / "k.a.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    before = file.read_bytes()
    calls: list[Architecture] = []
    list(kept(tmp_path / "k", "b", calls)(ALL))
    assert calls == ALL[-1:]
    assert file.read_bytes() == before, "its writer may be at work"


GOOD = {"architecture": [1, 1], "found": 1.5, "seconds": 0.1}


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(GOOD),
        json.dumps({**sealed(GOOD), "found": 9.0}),
        json.dumps(sealed({**GOOD, "found": None})),
        json.dumps(sealed({**GOOD, "found": True})),
        json.dumps(sealed({**GOOD, "seconds": -1})),
        json.dumps(sealed({**GOOD, "architecture": ["1"]})),
        json.dumps(sealed({"architecture": [1, 1]})),
        "[" * 100_000,
    ],
)
def test_a_damaged_score_is_told_by_line_and_found_anew(tmp_path: Path, line: str) -> None:
    list(kept(tmp_path / "k", "a", [])(ALL))
    file = tmp_path / "k.a.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], line, "\n", *lines[2:]]))
    calls: list[Architecture] = []
    told: list[str] = []
    again = kept(tmp_path / "k", "a", calls, tell=told.append)
    assert told[0].startswith(f"{file}:2: not a whole search score (")
    assert len(told) == 1
    assert file.read_text() == "".join([lines[0], *lines[2:]])
    assert dict(again(ALL)) == {a: 0.5 + a[0] for a in ALL}
    assert calls == [ALL[1]]
