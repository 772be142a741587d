"""Tables of text: a name in a cell is computed by no spreadsheet, wherever a table is written."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from imbnas.csv_text import csv_cell, csv_text
from imbnas.data.near_duplicates import REPORT, Pairs, write_report
from imbnas.training.history import write_losses_by_network


@pytest.mark.parametrize("name", ["0", "T-shirt/top", "aquarium_fish", "ant (red)", "Größe 5, x-y", "a > b", "cat #1!"])
def test_ordinary_names_keep_their_bytes(name: str) -> None:
    assert csv_cell(name) == name


def test_spreadsheets_compute_nothing() -> None:
    names = [
        "=1+1",
        "+1+1",
        "-cmd",
        "@SUM(A1)",
        "\t=1",
        '=HYPERLINK("http://a.example")',
        "-1.5",
        "+3",
        "plain",
        "a\nb",
    ]
    text = csv_text(["class", "=recall"], [(name, -0.5) for name in names]).decode()
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["class", "'=recall"]
    assert [row[0] for row in rows] == [
        "'=1+1", "'+1+1", "'-cmd", "'@SUM(A1)", "\\t=1", '\'=HYPERLINK("http://a.example")', "-1.5", "+3", "plain",
        "a\\nb",
    ]  # fmt: skip
    assert {row[1] for row in rows} == {"-0.5"}


def test_paths_of_near_duplicates_and_names_of_networks_are_no_formulas(tmp_path: Path) -> None:
    pairs = Pairs(["train", "test"], np.array([[3, 0, 0, 1, 0]]), 1, 1)
    write_report(tmp_path, pairs, lambda split, row: f"=cmd|{split}/{row}.png")
    assert (tmp_path / REPORT).read_text().splitlines()[1] == "3,train,'=cmd|train/0.png,test,'=cmd|test/0.png"
    write_losses_by_network(tmp_path / "losses.csv", {"@net": [0.5]})
    assert (tmp_path / "losses.csv").read_text().splitlines()[1] == "'@net,1,0.500000"
