"""The table of methods and the reading order in ARCHITECTURE.md: what they name exists, and nothing is left out."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from imbnas.params.config import load
from imbnas.params.reference import leaves, parameters

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
COMPLETE = (
    "retrain.loss",
    "retrain.sampler.name",
    "retrain.head.name",
    "adapt.strategy",
    "space.name",
    "search.method",
)
"""Parameters each of whose words is a method."""


class Row(NamedTuple):
    """A row of the table."""

    method: str
    paper: str
    preset: str
    parameter: str
    module: str
    test: str

    @property
    def key(self) -> str:
        return self.parameter.strip("`").partition(":")[0]

    @property
    def value(self) -> str:
        return self.parameter.strip("`").partition(": ")[2]


def table() -> list[Row]:
    section = PAGE.partition("\n## Methods\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|") and "`" in line]
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]


@cache
def effective(preset: str) -> dict[str, Any]:
    return leaves(load(ROOT / "presets" / f"{preset}.yaml").model_dump(mode="json", by_alias=True))


@pytest.mark.parametrize("row", table(), ids=lambda row: row.method)
def test_a_row_names_what_exists(row: Row) -> None:
    known = {each.name: each for each in parameters()}
    assert row.key in known
    if row.value:
        assert row.value in known[row.key].words
    assert (ROOT / "src/imbnas" / row.module.strip("`")).is_file()
    assert (ROOT / "tests" / row.test.strip("`")).is_file()
    if row.preset != "-":
        value = effective(row.preset.strip("`"))[row.key]
        assert value == row.value if row.value else value


@pytest.mark.parametrize("key", COMPLETE)
def test_no_method_is_left_out(key: str) -> None:
    (words,) = [each.words for each in parameters() if each.name == key]
    suffix = key.split(".", 1)[1]
    assert set(words) - {"none"} <= {row.value for row in table() if row.key.endswith(f".{suffix}")}


def test_the_reading_order_is_of_eight_files_that_exist() -> None:
    section = PAGE.partition("\n## Dive into the code\n")[2].partition("\n## ")[0]
    files = re.findall(r"^\d\. \[`(.+?)`\]\(\1\)", section, re.MULTILINE)
    assert len(files) == len(set(files)) == 8
    assert [name for name in files if not (ROOT / name).is_file()] == []
