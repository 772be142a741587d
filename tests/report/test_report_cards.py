"""The cards and the page of results: the figures of the files beside them, in text that no name can break."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fake_project as fake
import pandas as pd
import pytest

from imbnas.params.evaluate import EvaluateParams, EvaluateView
from imbnas.progress import Log
from imbnas.report.cards import write_dataset_card, write_model_card, write_results_page
from imbnas.run.context import Context
from imbnas.steps import evaluate


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cards")
    fake.write_project(root)
    params = EvaluateParams(resamples=50, batch_size=16)
    seen = EvaluateView(seed=3, space=fake.SPACE, runtime=fake.NUMERICS, evaluate=params)
    evaluate.run(seen, Context("evaluate", root, Log("evaluate")))
    return root


@pytest.fixture
def details(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = fake.read(project, "details")
    return found


def rows(text: str, column: str) -> list[list[str]]:
    """Return the cells of the Markdown table whose first column has that title."""
    table = re.search(rf"^\| {column} \|.*\n\|[-| ]+\|\n((?:\|.*\n)*)", text + "\n", re.MULTILINE)
    assert table, f"no table with {column} in:\n{text}"
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in table[1].splitlines()]


def test_the_model_card_has_the_metrics_figures(project: Path, details: dict[str, Any]) -> None:
    text = (project / "results/model-card.md").read_text()
    metrics = fake.read(project, "metrics")
    chosen, *others = rows(text, "network")
    assert chosen[0].strip() == "chosen"
    low, high = details["networks"]["final"]["intervals"]["balanced_accuracy"]
    shown = f"{100 * metrics['balanced_accuracy']:.2f} [{100 * low:.2f}, {100 * high:.2f}]"
    assert chosen[1].strip() == shown
    assert [cells[0].strip() for cells in others] == ["random 1", "random 2", "random 3", "largest"]
    assert f"{metrics['params']:,} parameters" in text
    assert [cells[1].strip() for cells in rows(text, "block")] == details["networks"]["final"]["blocks"]
    assert ["epochs", "`0`"] in [[cell.strip() for cell in line] for line in rows(text, "parameter")]


def test_the_dataset_card_counts_every_class(project: Path, details: dict[str, Any]) -> None:
    lines = rows((project / "results/dataset-card.md").read_text(), "class")
    assert [int(cells[1].replace(",", "")) for cells in lines] == fake.COUNTS
    assert [int(cells[3]) for cells in lines] == [2, 0, 0, 0]
    assert sum(int(cells[4]) for cells in lines) == details["test_rows"]


def test_a_strange_class_name_breaks_no_table(project: Path, details: dict[str, Any], tmp_path: Path) -> None:
    table = pd.read_parquet(project / "results/classes.parquet")
    table["class"] = table["class"].replace("bee", "a|b\n<script>alert(1)</script>")
    write_dataset_card(tmp_path / "card.md", details, table)
    lines = rows((tmp_path / "card.md").read_text(), "class")
    assert {len(cells) for cells in lines} == {5}
    details["dataset"] = "<b>birds</b>"
    write_results_page(tmp_path / "page.html", details)
    assert "<b>" not in (tmp_path / "page.html").read_text()


def test_the_card_tells_of_a_teacher_and_of_a_supernet_that_moved(details: dict[str, Any], tmp_path: Path) -> None:
    write_model_card(tmp_path / "card.md", details)
    before = (tmp_path / "card.md").read_text()
    assert "teacher" not in before
    assert "supernet has moved" not in before
    details["teacher"] = {"architecture": [3, 0, 2], "macs": 1234567, "params": 8910}
    details["search"]["shifting"] = {"generations": 3, "updates": 6, "tau": 0.5}
    write_model_card(tmp_path / "card.md", details)
    text = (tmp_path / "card.md").read_text()
    assert "a teacher of 1,234,567 multiply-accumulate operations and 8,910 parameters" in text
    assert "(`3-0-2`)" in text
    assert (
        "The supernet has moved by 6 updates after 3 generations; scores are those of its last weights, which" in text
    )


def test_a_project_without_references_and_scores_has_its_cards(details: dict[str, Any], tmp_path: Path) -> None:
    details["networks"] = {"final": {**details["networks"]["final"], "few": None}}
    details["search"] |= {"method": "fixed", "validation_rows": 0, "evaluated": 0}
    write_model_card(tmp_path / "card.md", details)
    (only,) = rows((tmp_path / "card.md").read_text(), "network")
    assert only[5].strip().startswith("-")


def test_the_page_needs_nothing_else_and_shows_the_headline(project: Path) -> None:
    text = (project / "results/table.html").read_text()
    assert not re.search(r"https?://|<script|<link|src=", text)
    metrics = fake.read(project, "metrics")
    strong = re.search(r'<tr class="strong">(.*?)</tr>', text)
    assert strong
    assert f">{100 * metrics['balanced_accuracy']:.2f}<br><small>[" in strong[1]


def test_names_of_classes_do_nothing_in_a_card(project: Path, details: dict[str, Any], tmp_path: Path) -> None:
    names = ["<script>x</script>", "[a](http://b.example)", "\x1b[2Jd", "`b` | **c**"]
    table = pd.read_parquet(project / fake.PATHS["classes"])
    table["class"] = [names[label] for label in table["label"]]
    write_dataset_card(tmp_path / "data.md", details, table)
    final = {**details["networks"]["final"], "worst_class_name": names[0]}
    write_model_card(tmp_path / "model.md", {**details, "networks": {**details["networks"], "final": final}})
    for text in ((tmp_path / name).read_text() for name in ("data.md", "model.md")):
        assert "&lt;script>" in text
        assert not re.search(r"<script|(?<!\\)\]\(|http://|\x1b|\*\*c|`b`", text)
