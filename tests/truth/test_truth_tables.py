"""What is read from a truth table: one device, whole seeds, and statistics of known data; files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from tiny_table import invented, write_spec

from imbnas.errors import UserError
from imbnas.params.truth import load_truth
from imbnas.truth import agreement
from imbnas.truth.places import Table
from imbnas.truth.trained_rows import SCHEMA, read_rows, write_rows
from imbnas.truth.truth_page import page
from imbnas.truth.whole_seeds import whole, whole_of


def test_rows_read_back_as_they_were(tmp_path: Path) -> None:
    rows = invented()
    write_rows(tmp_path / "a.parquet", tmp_path / "a.csv", rows)
    assert read_rows(tmp_path / "a.parquet") == rows
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + len(rows)


def test_devices_and_precisions_are_not_mixed() -> None:
    rows = invented()
    mixed = rows + [{**row, "device": "NVIDIA H100"} for row in rows]
    with pytest.raises(UserError, match=r"rows of several device: cpu, NVIDIA H100, expected one .* choose one"):
        whole_of(mixed, "t")
    assert whole_of(mixed, "t", device="cpu").common("device") == "cpu"
    for column in ("precision", "recipe", "test_rows", "torch"):
        with pytest.raises(UserError, match=f"several {column}"):
            whole_of([*rows[:-1], {**rows[-1], column: "x"}], "t")


def test_only_whole_seeds_are_compared() -> None:
    rows = invented(seeds=3)
    assert whole_of(rows[:-1], "t").seeds == (0, 1)
    found = whole_of(rows, "t").scores("longtail", "test")
    assert found.shape == (3, 12)
    assert found[1, 2] == next(
        row["test"] for row in rows if (row["seed"], row["condition"], row["macs"]) == (1, "longtail", 1002)
    )
    with pytest.raises(UserError, match="no seed holds every cell"):
        whole_of(invented(seeds=1)[:-1], "t")


def test_tau_of_a_resample_is_scipys() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=20), rng.normal(size=20)
    for _ in range(5):
        places = rng.integers(20, size=20)
        expected = scipy.stats.kendalltau(first[places], second[places]).statistic
        assert agreement.tau(first, second)(places) == pytest.approx(expected)


def test_components_of_variance_are_found_again() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(0.5, 0.03, size=(1, 4000)) + rng.normal(0.0, 0.01, size=(3, 4000))
    found = agreement.spread(scores, np.arange(4000))
    assert found.within == pytest.approx(0.01, rel=0.05)
    assert found.between == pytest.approx(0.03, rel=0.05)
    assert found.reliability(3) == pytest.approx(0.0009 / (0.0009 + 0.0001 / 3), abs=0.01)
    true = rng.normal(size=3000)
    noisy = true + rng.normal(size=3000)
    measured = scipy.stats.kendalltau(true, noisy).statistic
    assert agreement.ceiling(0.5) == pytest.approx(measured, abs=0.02)


def test_noise_alone_has_no_reliability_and_lowers_no_corrected_correlation() -> None:
    rng = np.random.default_rng(5)
    true = rng.normal(size=2000)
    first, second = (true + rng.normal(size=(2, 2000)) for _ in range(2))
    cells = np.arange(2000)
    assert np.corrcoef(first.mean(axis=0), second.mean(axis=0))[0, 1] < 0.75
    assert agreement.disattenuated(first, second)(cells) == pytest.approx(1.0, abs=0.06)
    alike = np.full((2, 9), 0.1)
    assert agreement.spread(alike, np.arange(9)).reliability(2) == 0.0
    assert agreement.figure(agreement.tau(alike[0], alike[1]), 9, 20).text() == "not defined"


def test_the_seeds_that_choose_do_not_judge() -> None:
    own = np.array([[0.9, 0.5, 0.1], [0.1, 0.5, 0.2]])
    other = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    # Seed 0 is judged by what seed 1 chooses, cell 1 both times; seed 1 by cell 0 of seed 0 beside cell 1.
    assert agreement.transfer_regret(other, own)(np.arange(3)) == pytest.approx(((0.5 - 0.5) + (0.1 - 0.5)) / 2)


def test_the_page_says_what_one_seed_cannot_tell() -> None:
    text = page("t", "tables", whole_of(invented(seeds=1), "t"), 3)
    assert "1 of 3" in text
    assert "needs two complete seeds" in text
    assert "tau of two seeds" not in text
    both = page("t", "tables", whole_of(invented(seeds=2), "t"), 2)
    assert "all 2" in both
    assert "needs two" not in both
    line = next(line for line in both.splitlines() if line.startswith("| balanced, longtail"))
    assert 0.5 < float(line.split(" | ")[1].split(" ")[0]) <= 1.0
    assert "| longtail | " in both


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no parquet", "not a table that `make table` wrote"),
        (None, "not found, expected a table"),
    ],
)
def test_what_is_no_table_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=rf"t\.parquet: {message}"):
        whole(file)


def test_a_table_of_other_columns_or_of_a_row_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    table = pa.Table.from_pylist(invented(), schema=SCHEMA)
    pq.write_table(table.drop_columns(["few"]), file)
    with pytest.raises(UserError, match="differs in few"):
        whole(file)
    pq.write_table(table.slice(0, 2).take([0, 0]), file)
    with pytest.raises(
        UserError, match=r"row 1 has the key of an earlier one \(0-0-3-3-3-3, balanced, seed 0, cpu fp32\)"
    ):
        whole(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cells": ["3-1-4"]},
            "cells[0] is text '3-1-4', expected 6 choices joined by hyphens, at most 4, 4, 4, 4, 4, 4",
        ),
        ({"cells": ["3-1-4-2-4-5"]}, "cells[0] is text '3-1-4-2-4-5', expected 6 choices"),
        ({"cells": ["3-1-4-2-4-4", "3-1-4-2-4-4"]}, "cells[1] is text '3-1-4-2-4-4', which an earlier entry is too"),
        ({"cells": []}, "cells: found [], expected at least 1 entries"),
        ({"conditions": {"Long Tail": {}}}, "conditions has text 'Long Tail', expected names of small letters"),
        ({"conditions": {"tail": {"ratio": -1.0}}}, "conditions.tail.ratio: found -1.0, expected a number above 0"),
        ({"seeds": 0}, "seeds: found 0, expected a number above 0"),
        ({"cell": []}, "cell: unknown parameter, did you mean cells?"),
        ({"retrain": {"head": {"name": "crt"}}}, "retrain.head.name is crt, expected none"),
        ({"retrain": {"distill": {"teacher": "largest"}}}, "retrain.distill.teacher is largest, expected none: each"),
        ({"retrain": {"init": "handed"}}, "retrain.init is handed, expected scratch: each cell is trained alone"),
        ({"target": {"validation": {"per_class": 0}}}, "target.validation reserves no rows"),
        ({"target": {"validation": {"per_class": 10}}, "source": {"share": 1.0}}, "source.share is 1.0"),
    ],
)
def test_a_wrong_description_is_one_line(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    file = write_spec(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        load_truth(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"about": "\\ud800"}', "not plain data: "),
        ('{"cells": ' + "[" * 300 + "]" * 300 + "}", "not plain data: recursion limit exceeded"),
        ("about: 2026-01-02\n", "not plain data: found 2026-01-02 of type date; expected"),
        ("", "found nothing, expected a mapping of sections"),
    ],
)
def test_a_description_that_no_json_holds_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / ("t.json" if text.startswith("{") else "t.yaml")
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_truth(file)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_rows_are_made_anew_where_raw_files_have_changed(tmp_path: Path) -> None:
    own = {"dataset": "folder", "root": "datasets/own", "image_size": 8}
    file = write_spec(tmp_path, target=own, source={"dataset": "cifar10", "root": "datasets/cifar10"})
    image = tmp_path / "datasets/own/owl/1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"one")

    def rows() -> Path:
        return Table(file, tmp_path).rows

    first = rows()
    assert rows() == first
    (tmp_path / "datasets/cifar10").mkdir()
    (tmp_path / "datasets/cifar10/readme").write_text("its reader compares checksums")
    assert rows() == first
    image.write_bytes(b"other")
    changed = rows()
    image.with_name("2.png").write_bytes(b"new")
    assert len({first, changed, rows()}) == 3
