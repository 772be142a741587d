from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_report_tables import details, network

from imbnas.files import write_json
from imbnas.report.guide import print_guide
from imbnas.run.graph import PATHS

NEAR = {"count": 37, "cheapest": {"macs": 12_345_678}}


def shown(root: Path, found: dict[str, Any], workflow: bool = True, near: dict[str, Any] | None = None) -> str:
    places = {name: root / place for name, place in PATHS.items()}
    write_json(places["details"], {**found, "search": {"evaluated": 100_000, "within_one_error": near}})
    text = io.StringIO()
    print_guide(places, Console(file=text, width=200), workflow)
    return text.getvalue().replace(f"{root}/", "")


def test_the_cheapest_is_told_by_every_cost_that_is_known(tmp_path: Path) -> None:
    cheapest = {"macs": 12_345_678, "latency_ms": 0.0123, "energy_nj": 34_567.8}
    text = shown(tmp_path, details(), near={"count": 37, "cheapest": cheapest})
    assert "12.3M MACs, 0.0123 ms and 34,568 nJ: imbnas table --front" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def bounded(low: float, high: float) -> dict[str, Any]:
    return network(intervals={"balanced_accuracy": [low, high]})


def test_a_newcomer_learns_what_was_found_and_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "results/figures").mkdir(parents=True)
    text = shown(tmp_path, details())
    assert "412M MACs and 5.3M parameters" in text
    assert "models/final.safetensors" in text
    assert "results/figures/: " in text
    assert "model-card" not in text  # there is none


@pytest.mark.parametrize(
    ("random", "largest", "told"),
    [
        (bounded(0.5, 0.61), bounded(0.7, 0.8), "overlaps that of random and largest:"),
        (bounded(0.5, 0.59), bounded(0.7, 0.8), "overlaps that of largest:"),
        (bounded(0.5, 0.59), bounded(0.72, 0.8), ""),
    ],
)
def test_overlapping_intervals_are_told(tmp_path: Path, random: Any, largest: Any, told: str) -> None:
    text = shown(tmp_path, {**details(), "networks": {"final": network(), "random": random, "largest": largest}})
    assert told in text
    assert ("overlaps" in text) == bool(told)


def test_commands_of_snakemake_need_a_snakefile(tmp_path: Path) -> None:
    assert "snakemake" in shown(tmp_path, details())
    assert "snakemake" not in shown(tmp_path, details(), workflow=False)


def test_the_lines_fit_into_eighty_columns(tmp_path: Path) -> None:
    assert max(map(len, shown(tmp_path, details(), near=NEAR).splitlines())) <= 80


def test_a_search_says_how_many_candidates_it_could_not_tell_apart(tmp_path: Path) -> None:
    assert "37 are within one standard error" in shown(tmp_path, details(), near=NEAR)
    assert "with 12.3M MACs" in shown(tmp_path, details(), near=NEAR)
    assert "standard error" not in shown(tmp_path, details())
