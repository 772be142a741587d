"""A table in place of the supernet (`search.table`): its cells alone, its scores, and no weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_chain

from imbnas.params.config import parse
from imbnas.params.section import UserError

CELLS = [f"{a}-{b}-{c}" for a in range(4) for b in range(3) for c in range(2) if (a + b + c) % 2]


def with_table(chain: Path, root: Path) -> Path:
    tiny_chain.copy(chain, root)
    (root / "tables").mkdir()
    rng = np.random.default_rng(0)
    rows = [
        {"seed": seed, "architecture": cell, "condition": condition, "validation": place / 20 + 0.01 * rng.random()}
        for seed in (0, 1)
        for condition, order in (("balanced", 1), ("longtail", -1))
        for place, cell in enumerate(CELLS[::order])
    ]
    pd.DataFrame(rows).to_csv(root / "tables/t.csv", index=False)
    # Not a supernet any more.
    (root / "models/adapted.safetensors").write_bytes(
        (root / "models/adapted.safetensors").read_bytes()[:-4000] + bytes(4000)
    )
    return root


@pytest.mark.parametrize("method", ["random", "evolution", "exhaustive", "tpe", "nsga2", "macs", "params"])
def test_every_method_scores_the_tables_cells_and_no_others(chain: Path, tmp_path: Path, method: str) -> None:
    root = with_table(chain, tmp_path / "p")
    given = {"table": "tables/t.csv", "table_condition": "longtail", "population": 6, "parents": 3, "generations": 3}
    assert tiny_chain.run(root, "search", search={"method": method, "candidates": 8, **given}) == 0
    found = pd.read_parquet(root / "results/search.parquet")
    scores = pd.read_csv(root / "tables/t.csv").query("condition == 'longtail'").groupby("architecture")["validation"]
    assert set(found["architecture"]) <= set(CELLS)
    assert found["architecture"].is_unique
    assert found["score"].tolist() == pytest.approx(scores.mean()[found["architecture"]].tolist())
    assert found["standard_error"].notna().all(), "two seeds tell how sure a mean is"
    expected = {"exhaustive": len(CELLS), "macs": 1, "params": 1, "random": 8, "tpe": 8}.get(method)
    assert expected is None or len(found) == expected
    if method == "exhaustive":
        assert found.loc[found["chosen"], "architecture"].item() == CELLS[0], "the last of the reversed order is best"
    for name in ("search", "architecture"):
        told = json.loads((root / f"results/{name}.json").read_text())
        assert told["table"] | {"digest": 0} == {
            "digest": 0,
            "column": "validation",
            "condition": "longtail",
            "cells": len(CELLS),
            "seeds": 2,
        }
        assert told["objective"] == "validation of a table, longtail"
    assert "not of the supernet" in (root / "logs/search.log").read_text()


def test_the_largest_is_the_tables_largest_and_limits_hold(chain: Path, tmp_path: Path) -> None:
    root = with_table(chain, tmp_path / "p")
    given = {"table": "tables/t.csv", "table_condition": "balanced"}
    assert tiny_chain.run(root, "search", search={"method": "exhaustive", **given}) == 0
    everything = pd.read_parquet(root / "results/search.parquet")
    assert tiny_chain.run(root, "search", search={"method": "macs", **given}) == 0
    assert pd.read_parquet(root / "results/search.parquet")["macs"].item() == everything["macs"].max()
    limit = int(everything["macs"].median())
    assert tiny_chain.run(root, "search", search={"method": "tpe", "candidates": 50, "max_macs": limit, **given}) == 0
    within = pd.read_parquet(root / "results/search.parquet")
    assert within["macs"].max() <= limit
    assert set(within["architecture"]) == set(everything.loc[everything["macs"] <= limit, "architecture"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "tables/none.csv"}, "search.table: {root}/tables/none.csv: not found, expected a table"),
        ({"table": "tables/t.csv"}, "search.table: {root}/tables/t.csv: holds several conditions: balanced, longtail"),
        (
            {"table": "tables/t.csv", "table_condition": "balanced", "table_column": "test"},
            "search.table: {root}/tables/t.csv: has no column 'test', expected one of validation",
        ),
        ({"table": "tables/other.csv"}, "row 0: architecture is '9-9-9', which names no architecture of the space"),
    ],
)
def test_a_wrong_table_is_one_line(
    chain: Path, tmp_path: Path, change: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = with_table(chain, tmp_path / "p")
    (root / "tables/other.csv").write_text("architecture,validation\n9-9-9,0.5\n")
    assert tiny_chain.run(root, "search", search={"method": "random", "candidates": 4, **change}) == 2
    told = capsys.readouterr().err
    assert message.format(root=root) in told
    assert "Traceback" not in told


def test_no_cell_within_the_limits_is_told(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = with_table(chain, tmp_path / "p")
    frame = pd.read_csv(root / "tables/t.csv").query("architecture == '3-2-1' or architecture == '3-0-0'")
    frame.to_csv(root / "tables/t.csv", index=False)
    given = {"method": "random", "table": "tables/t.csv", "table_condition": "balanced"}
    assert tiny_chain.run(root, "search", search=given) == 0
    least = int(pd.read_parquet(root / "results/search.parquet")["macs"].min())
    capsys.readouterr()
    assert tiny_chain.run(root, "search", search={**given, "max_macs": least - 1}) == 2
    assert f"t.csv is within them, expected at least the smallest, of {least} MACs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "t.csv"}, "search.table: found t.csv, expected a file below tables/"),
        ({"table": "tables/../t.csv"}, "search.table: found tables/../t.csv, expected a file below tables/"),
        (
            {"table": "tables/t.csv", "method": "synflow"},
            "search.table is tables/t.csv with method synflow, expected null",
        ),
        ({"table": "tables/t.csv", "method": "darts"}, "method"),
        ({"table": "tables/t.csv", "choose": "cheapest-within-one-error"}, "with table tables/t.csv, expected best"),
    ],
)
def test_what_does_not_go_with_a_table_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(tiny_chain.changed(search={"method": "random", **change}), "p.yaml")
    assert message in str(caught.value)


def test_a_table_needs_no_validation_rows() -> None:
    target = {"validation": {"per_class": 0}}
    parse(tiny_chain.changed(target=target, search={"method": "random", "table": "tables/t.csv"}), "p.yaml")
    with pytest.raises(UserError, match=r"target\.validation\.per_class is 0 with search\.method random"):
        parse(tiny_chain.changed(target=target, search={"method": "random"}), "p.yaml")


def test_a_table_of_several_devices_is_used_by_one_of_them(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = with_table(chain, tmp_path / "p")
    frame = pd.read_csv(root / "tables/t.csv").query("condition == 'balanced' and seed == 0").drop(columns="condition")
    other = frame.assign(device="gpu", validation=frame["validation"] + 10.0)
    pd.concat([frame.assign(device="cpu"), other]).to_csv(root / "tables/t.csv", index=False)
    given = {"method": "random", "candidates": 3, "table": "tables/t.csv"}
    assert tiny_chain.run(root, "search", search=given) == 2
    assert "holds several devices: cpu, gpu, expected one to be chosen" in capsys.readouterr().err
    assert tiny_chain.run(root, "search", search={**given, "table_device": "gpu"}) == 0
    assert (pd.read_parquet(root / "results/search.parquet")["score"] > 10.0).all()
    assert json.loads((root / "results/architecture.json").read_text())["table"]["device"] == "gpu"
