"""The front in a terminal and as a figure, and what a search knows about itself in sentences."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.image import imread
from rich.console import Console

from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.report.front_figure import draw_front
from imbnas.report.front_table import print_front
from imbnas.report.search_facts import sentences

CANDIDATE = {"architecture": [1, 2], "score": 0.625, "standard_error": 0.02, "macs": 1_250_000, "params": 4_000}
FACTS: dict[str, Any] = {
    "method": "random",
    "objective": "balanced_accuracy",
    "evaluated": 40,
    "validation_rows": 101,
    "best": CANDIDATE,
    "within_one_error": {"count": 7, "cheapest": {**CANDIDATE, "macs": 900_000}},
    "halves": {"rows": [51, 50], "tau": 0.4142},
    "tau_macs": 0.25,
    "tau_params": -0.125,
}
FRONT = pd.DataFrame(
    {
        "architecture": ["0-0", "1-2"],
        "score": [0.5, 0.625],
        "standard_error": [0.03, 0.02],
        "macs": [500_000, 1_250_000],
        "params": [2_000, 4_000],
        "chosen": [False, True],
    }
)


def printed(root: Path, front: pd.DataFrame, facts: dict[str, Any]) -> str:
    front.to_parquet(root / "front.parquet")
    write_json(root / "search.json", facts)
    text = io.StringIO()
    print_front(root / "front.parquet", root / "search.json", Console(file=text, width=80))
    return " ".join(text.getvalue().split())


def test_the_sentences_say_what_was_found() -> None:
    near, agreement, taus = sentences(FACTS)
    assert near.startswith("7 of 40 candidates are within one standard error of the best one")
    assert "on the same 101 rows" in near
    assert near.endswith("the cheapest of them has 900,000 MACs, the best one 1,250,000")
    assert agreement == "two halves of the validation rows (51 and 50) rank the candidates with tau 0.41"
    assert taus == "the rank correlation (tau) of the score is 0.25 with MACs and -0.12 with parameters"
    unknown = {**FACTS, **dict.fromkeys(("within_one_error", "halves", "tau_macs", "tau_params"))}
    assert sentences(unknown) == []


def test_the_terminal_shows_the_front_and_the_sentences(tmp_path: Path) -> None:
    text = printed(tmp_path, FRONT, FACTS)
    assert "2 of 40 candidates that no other one beats" in text
    assert "1-2 62.5 2.0 1.25M 4k chosen" in text
    assert "Two halves of the validation rows (51 and 50) rank" in text


def test_every_cost_that_is_known_is_told(tmp_path: Path) -> None:
    cheapest = {**CANDIDATE, "macs": 900_000, "latency_ms": 0.7, "energy_nj": 2345.6}
    near = {"count": 7, "cheapest": cheapest}
    facts = {**FACTS, "within_one_error": near, "tau_latency": 0.5, "tau_energy": 0.75}
    text = printed(tmp_path, FRONT.assign(latency_ms=[0.5, 1.25], energy_nj=[1200.5, 3.21]), facts)
    assert "no other one beats in score, MACs, parameters, latency and energy" in text
    assert "MACs params ms nJ" in text
    assert "1.25M 4k 1.25 3.21 chosen" in text
    assert "500k 2k 0.5 1,200" in text
    assert "the cheapest of them has 900,000 MACs, 0.7 ms and 2,346 nJ" in text
    assert "-0.12 with parameters, 0.50 with latency and 0.75 with energy" in text


def test_a_score_that_is_no_accuracy_is_no_percentage(tmp_path: Path) -> None:
    front = FRONT.assign(score=[12.5, 43.0625], standard_error=None)
    text = printed(tmp_path, front, {**FACTS, "objective": "synflow", "within_one_error": None})
    assert "1-2 43.0625 - 1.25M" in text
    assert "%" not in text


def test_an_error_has_the_unit_of_its_score(tmp_path: Path) -> None:
    """A truth table of several seeds gives scores that are no percentages, with errors."""
    text = printed(tmp_path, FRONT, {**FACTS, "objective": "validation of a table", "within_one_error": None})
    assert "1-2 0.625 0.02 1.25M" in text


def test_without_candidates_there_is_no_front(tmp_path: Path) -> None:
    text = printed(tmp_path, FRONT[:0], {**FACTS, "method": "fixed"})
    assert text == "The method fixed compares no candidates: there is no front."


@pytest.mark.parametrize("name", ["front.parquet", "search.json"])
def test_what_is_missing_or_another_file_is_named(tmp_path: Path, name: str) -> None:
    printed(tmp_path, FRONT, FACTS)
    for content in (b"{}", None):
        (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            print_front(tmp_path / "front.parquet", tmp_path / "search.json", Console())


@pytest.mark.parametrize(
    ("objective", "rows"), [("balanced_accuracy", 2), ("synflow", 2), ("macs", 1), ("accuracy", 0)]
)
def test_the_figure_is_the_same_every_time(tmp_path: Path, objective: str, rows: int) -> None:
    candidates = pd.concat([FRONT, FRONT.assign(score=0.1, macs=9_999_999)])
    drawn = []
    for name in ("a.png", "b.png"):
        draw_front(tmp_path / name, candidates, FRONT[:rows], objective)
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) > 5_000


def test_the_figure_has_a_panel_for_each_cost_that_is_known(tmp_path: Path) -> None:
    widths = []
    for names in ((), ("energy_nj",), ("latency_ms", "energy_nj")):
        known = FRONT.assign(**{name: [1.0, 2.0] for name in names})
        draw_front(tmp_path / "front.png", known, known, "accuracy")
        widths.append(imread(tmp_path / "front.png").shape[1])
    assert widths == [widths[0] * panels // 2 for panels in (2, 3, 4)]
