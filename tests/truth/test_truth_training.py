"""Training of a truth table: kept cell by cell, taken up after kills, never mixed with what does not agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_table import CELLS, SPEC, write_spec

from imbnas import cli_truth
from imbnas.errors import Interrupted, UserError
from imbnas.progress import Log
from imbnas.sealed import read_record, write_record
from imbnas.truth import data_rows, planning, records, shards
from imbnas.truth.collecting import collect
from imbnas.truth.places import Table
from imbnas.truth.trained_rows import read_rows, write_rows

QUIET = Log("truth", silent=True)
RESULT = ("tiny.parquet", "tiny.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose table was trained without interruption, in two parts."""
    root = tmp_path_factory.mktemp("finished")
    table = Table(write_spec(root), root)
    data_rows.prepare(table)
    shards.agree(table, QUIET)
    # Not in the order of the table.
    for seed in (1, 0):
        for part in (1, 0):
            shards.train_shard(table, seed, part, 2, QUIET)
    collect(table, QUIET)
    return root


@pytest.fixture
def fresh(tmp_path: Path, finished: Path) -> Table:
    """Return a clone of the project: what git keeps, and no working file but the data's rows."""
    root = tmp_path / "clone"
    write_spec(root)
    for name in (*RESULT, "tiny-seconds.csv"):
        (root / "tables" / name).write_bytes((finished / "tables" / name).read_bytes())
    table = Table(root / "tables/tiny.yaml", root)
    table.rows.parent.mkdir(parents=True)
    table.rows.symlink_to(Table(finished / "tables/tiny.yaml", finished).rows)
    return table


def test_rows_come_seed_by_seed_with_all_that_a_comparison_needs(finished: Path) -> None:
    rows = read_rows(finished / "tables/tiny.parquet")
    order = [(row["seed"], row["architecture"], row["condition"]) for row in rows]
    assert order == [
        (seed, cell, condition) for seed in (0, 1) for cell in CELLS for condition in ("balanced", "longtail")
    ]
    assert {row["device"] for row in rows} == {"cpu"}
    assert len({row["train_rows"] for row in rows}) == 2
    assert all(0.0 < row["validation"] < 1.0 and row["few"] is not None and row["macs"] > 0 for row in rows)
    balanced = [row for row in rows if row["condition"] == "balanced"]
    assert all(row["adjusted_test"] == row["test"] for row in balanced), "equal classes leave nothing to adjust"
    assert not any("seconds" in row for row in rows)
    assert "seconds" in (finished / "tables/tiny-seconds.csv").read_text().splitlines()[0]
    card = (finished / "tables/tiny.md").read_text()
    assert "12 of 12 trainings" in card
    assert "What it cannot tell" in card


def test_nothing_is_left_of_states_and_costs(finished: Path) -> None:
    assert not list((finished / ".imbnas/resume").rglob("*.pt"))
    assert not list((finished / ".imbnas/resume/retrain").glob("*.json"))


def run(root: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "imbnas.cli", "truth", *words],
        cwd=root,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop_when(process: subprocess.Popen[bytes], ready: Callable[[], bool], number: int) -> int:
    while not ready():
        assert process.poll() is None, "ended before it was stopped"
        time.sleep(0.01)
    os.kill(process.pid, number)
    return process.wait()


@pytest.mark.slow
def test_six_cells_killed_twice_equal_an_uninterrupted_run(tmp_path: Path) -> None:
    """Once within a training, so that its state is taken up, and once between two, by a signal that is heeded."""
    change = {
        "cells": [*CELLS, "0-0-0-2-0-0", "1-1-1-1-1-1", "4-0-3-0-0-1"],
        "conditions": {"longtail": {"ratio": 4.0, "n_max": 24}},
        "seeds": 1,
        "retrain": {"loss": "ce", "epochs": 6, "batch_size": 16},
    }
    outcomes = []
    for name in ("whole", "killed"):
        root = tmp_path / name
        file = write_spec(root, **change)
        table = Table(file, root)
        data_rows.prepare(table)
        if name == "killed":
            states, kept = root / ".imbnas/resume/retrain", table.work / "rows"
            process = run(root, "train", "tables/tiny.yaml")
            assert stop_when(process, lambda: any(states.glob("*.pt")), signal.SIGKILL) == -signal.SIGKILL  # noqa: B023
            assert any(states.glob("*.pt"))
            process = run(root, "train", "tables/tiny.yaml")
            code = stop_when(process, lambda: len([f for f in kept.rglob("*") if f.is_file()]) > 1, signal.SIGTERM)  # noqa: B023
            assert code == 143
            assert run(root, "train", "tables/tiny.yaml").wait() == 0
        else:
            shards.train_shard(table, 0, 0, 1, QUIET)
        collect(table, QUIET)
        outcomes.append([(root / "tables" / result).read_bytes() for result in RESULT])
    assert outcomes[0] == outcomes[1]


def test_a_plan_that_is_stopped_ends_without_a_traceback(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object) -> str:
        raise Interrupted("state saved")

    monkeypatch.setattr(planning, "plan", stopped)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            cli_truth.plan(finished / "tables/tiny.yaml", finished)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(shards, "train_cell", refuse)


def test_rows_of_the_committed_table_are_done_on_a_fresh_clone(fresh: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [fresh.beside(suffix).read_bytes() for suffix in (".parquet", ".csv", "-seconds.csv")]
    no_training(monkeypatch)
    shards.train_shard(fresh, 0, 0, 1, QUIET)
    collect(fresh, QUIET)
    assert [fresh.beside(suffix).read_bytes() for suffix in (".parquet", ".csv", "-seconds.csv")] == before


def test_a_part_of_a_table_is_gone_on_with(fresh: Table, finished: Path) -> None:
    rows = read_rows(fresh.beside(".parquet"))
    write_rows(fresh.beside(".parquet"), fresh.beside(".csv"), rows[:-1])
    shards.train_shard(fresh, 1, 0, 1, QUIET)
    collect(fresh, QUIET)
    for name in RESULT:
        assert (fresh.file.parent / name).read_bytes() == (finished / "tables" / name).read_bytes()


def test_cells_side_by_side_are_the_same_rows(fresh: Table, finished: Path) -> None:
    """As many as the file says, whose recipe this is not: rows of before stay."""
    rows = read_rows(fresh.beside(".parquet"))
    write_rows(fresh.beside(".parquet"), fresh.beside(".csv"), rows[:-3])
    table = Table(write_spec(fresh.root, runtime={"together": 2}), fresh.root)
    shards.train_shard(table, 1, 0, 1, QUIET)
    collect(table, QUIET)
    for name in RESULT:
        assert (table.file.parent / name).read_bytes() == (finished / "tables" / name).read_bytes()
    spent = [line.split(",") for line in table.beside("-seconds.csv").read_text().splitlines()[-3:]]
    assert all(0.0 < float(line[5]) < 60.0 for line in spent)


def other_code(table: Table, rows: int, **figures: float) -> None:
    """Let the committed table hold so many rows only, made by other code."""
    found = [{**row, "code": "0" * 16} for row in read_rows(table.beside(".parquet"))[:rows]]
    found[0] |= figures
    write_rows(table.beside(".parquet"), table.beside(".csv"), found)


def test_other_code_that_agrees_goes_on_and_both_stay_in_their_rows(fresh: Table) -> None:
    other_code(fresh, 3)
    with pytest.raises(UserError, match="which was not compared with"):
        shards.train_shard(fresh, 0, 0, 1, QUIET)
    shards.agree(fresh, QUIET)
    shards.train_shard(fresh, 0, 0, 1, QUIET)
    collect(fresh, QUIET)
    codes = [row["code"] for row in read_rows(fresh.beside(".parquet"))]
    assert codes[:3] == ["0" * 16] * 3
    assert len(codes) == 6
    assert set(codes[3:]) == {records.Records(fresh, "cpu").made["code"]}
    card = fresh.beside(".md").read_text()
    assert "Rows of 2 versions of the code: 3 rows by code 0000000000000000" in card
    assert "trained the first" in card


def test_another_torch_is_refused_before_anything_is_trained(fresh: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [{**row, "torch": "1.0"} for row in read_rows(fresh.beside(".parquet"))[:3]]
    write_rows(fresh.beside(".parquet"), fresh.beside(".csv"), found)
    no_training(monkeypatch)
    for act in (lambda: shards.train_shard(fresh, 1, 0, 1, QUIET), lambda: shards.agree(fresh, QUIET)):
        with pytest.raises(UserError, match=r"was made with torch 1\.0, found torch \d.*, expected the same; install"):
            act()


def test_other_code_that_does_not_agree_is_an_error_that_names_the_figure(fresh: Table) -> None:
    other_code(fresh, 3, test=0.987)
    with pytest.raises(UserError, match=r"made by code 0{16} .* comes out otherwise .* test \(0\.987, 0\.\d+\)"):
        shards.agree(fresh, QUIET)
    with pytest.raises(UserError, match="was not compared"):
        shards.train_shard(fresh, 0, 0, 1, QUIET)


def test_other_code_has_nothing_to_prove_where_nothing_is_left(fresh: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    other_code(fresh, 12)
    no_training(monkeypatch)
    shards.agree(fresh, QUIET)
    shards.train_shard(fresh, 1, 0, 1, QUIET)


def test_a_table_of_another_recipe_or_other_rows_is_not_gone_on_with(fresh: Table) -> None:
    rows = read_rows(fresh.beside(".parquet"))
    for name in ("recipe", "train_rows", "test_rows"):
        write_rows(fresh.beside(".parquet"), fresh.beside(".csv"), [{**row, name: "f" * 16} for row in rows])
        with pytest.raises(UserError, match=rf"tiny\.parquet: .*: {name} is f+, expected [0-9a-f]+ by .*tiny\.yaml"):
            shards.opened(fresh)


def test_a_condition_that_regroups_the_classes_is_not_added(fresh: Table, finished: Path) -> None:
    """The steepest condition decides which classes are few: rows of before would be of other classes than new ones."""
    more = {"conditions": {**SPEC["conditions"], "steep": {"ratio": 12.0, "n_max": 24, "order": "reversed"}}}
    for place, named in ((fresh, "tiny.parquet"), (Table(finished / "tables/tiny.yaml", finished), None)):
        before, hidden = place.file.read_bytes(), place.beside(".parquet")
        if named is None:
            hidden = hidden.rename(finished / "hidden")
        try:
            table = Table(write_spec(place.root, **more), place.root)
            data_rows.prepare(table)
            assert data_rows.groups(table) != data_rows.groups(table, ["balanced", "longtail"])
            with pytest.raises(UserError, match=r": many, medium and few are of other classes .* another name"):
                shards.opened(table)
        finally:
            place.file.write_bytes(before)
            if named is None:
                hidden.rename(place.beside(".parquet"))
        assert len(shards.opened(Table(place.file, place.root)).found) == 12


def test_a_committed_row_that_differs_from_what_was_trained_here_is_told(finished: Path, tmp_path: Path) -> None:
    table = Table(finished / "tables/tiny.yaml", finished)
    file = table.beside(".parquet")
    before = file.read_bytes()
    rows = read_rows(file)
    try:
        write_rows(file, tmp_path / "t.csv", [{**rows[0], "validation": 0.5}, *rows[1:]])
        with pytest.raises(UserError, match=r"3-1-4-2-4-4, balanced, seed 0, cpu fp32: validation \(0\.5, 0\.\d+\)"):
            shards.opened(table)
    finally:
        file.write_bytes(before)


def test_a_damaged_record_is_trained_again(finished: Path) -> None:
    table = Table(finished / "tables/tiny.yaml", finished)
    hidden = table.beside(".parquet").rename(finished / "hidden")
    file = next(file for file in (table.work / "rows").rglob("*") if file.is_file())
    before = read_record(file)
    try:
        changed = json.loads(file.read_text())
        changed["row"]["test"] = 0.99
        file.write_text(json.dumps(changed))
        shards.train_shard(table, before["row"]["seed"], 0, 1, QUIET)
        assert read_record(file)["row"] == before["row"]
    finally:
        write_record(file, before)
        hidden.rename(table.beside(".parquet"))


def test_another_device_is_another_row(finished: Path) -> None:
    found = records.Records(Table(finished / "tables/tiny.yaml", finished), "NVIDIA H100")
    found.load()
    assert not found.found, "what the processor has trained is not done on a GPU"


def test_rows_of_another_device_stay_in_the_table(fresh: Table) -> None:
    seconds = fresh.beside("-seconds.csv").read_text()
    own = read_rows(fresh.beside(".parquet"))
    others = [{**row, "device": device, "test": 0.5} for device in ("NVIDIA H100", "another") for row in own[:2]]
    write_rows(fresh.beside(".parquet"), fresh.beside(".csv"), [*others, *own])
    collect(fresh, QUIET)
    assert read_rows(fresh.beside(".parquet")) == [*others, *own]
    assert fresh.beside("-seconds.csv").read_text().endswith(seconds.split("\n", 1)[1])
    assert "12 of 12 trainings" in fresh.beside(".md").read_text()
    before = fresh.beside(".parquet").read_bytes()
    collect(fresh, QUIET)
    assert fresh.beside(".parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("2-0-0-1-0-4", "cells[1]: architecture: 2-0-0-1-0-4 names operations that do not act, expected 0-0-0-1-0-0"),
        (
            "2-0-0-0-0-0",
            "cells[1]: architecture: 2-0-0-0-0-0 has no way from input to output, expected a connected one",
        ),
    ],
)
def test_only_canonical_cells_are_trained(cell: str, message: str, tmp_path: Path) -> None:
    file = write_spec(tmp_path, cells=[CELLS[0], cell])
    with pytest.raises(UserError) as caught:
        shards.opened(Table(file, tmp_path))
    assert str(caught.value) == f"{file}: {message}"
