"""Latency as a cost of a search (`search.latency`, `search.max_latency`), by tables written by hand."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_chain

from imbnas.data.latency_file import space_digest, write_latencies
from imbnas.errors import UserError
from imbnas.params.config import Params, parse
from imbnas.saved import load_references

FIXED = 700_000
BLOCKS = [[40_000, 10_000, 5_000, 300_000], [1_000, 90_000, 60_000, 20_000], [0, 200_000, 30_000, 7_000]]
"""Nanoseconds that go along with neither MACs nor parameters."""


def params() -> Params:
    return parse(tiny_chain.PARAMS, "p.yaml")


def hand_written(file: Path, blocks: list[list[int]] = BLOCKS, **other: Any) -> Path:
    space, (height, width, channels) = params().space, params().target.shape
    setting = {
        "space": space.name,
        "space_digest": space_digest(space),
        **{"height": height, "width": width, "channels": channels, "classes": 10, "batch": 1},
        **{"device": "a telephone", "precision": "fp32", "threads": 1, "label": "", "spread_ns": None},
        **other,
    }
    fixed: list[dict[str, Any]] = [
        {"part": "stem", "block": None, "choice": None, "latency_ns": FIXED - 100},
        {"part": "classifier", "block": None, "choice": None, "latency_ns": 100},
    ]
    rows = [
        {"part": "block", "block": number, "choice": choice, "latency_ns": taken}
        for number, row in enumerate(blocks, 1)
        for choice, taken in enumerate(row)
    ]
    write_latencies(file, [{**row, **setting} for row in [*fixed, *rows]])
    return file


def by_hand(architecture: str) -> float:
    choices = map(int, architecture.split("-"))
    return (FIXED + sum(row[choice] for row, choice in zip(BLOCKS, choices, strict=True))) / 1e6


def within(limit: float) -> set[str]:
    every = ("-".join(map(str, choices)) for choices in itertools.product(range(4), repeat=3))
    return {one for one in every if by_hand(one) <= limit}


@pytest.mark.parametrize("method", ["exhaustive", "evolution", "random", "tpe", "nsga2", "macs", "params"])
def test_the_limit_binds_whatever_the_method(chain: Path, tmp_path: Path, method: str) -> None:
    root = tiny_chain.copy(chain, tmp_path / "p")
    hand_written(root / "tables/latency.csv")
    search = {"method": method, "candidates": 12, "population": 6, "parents": 3, "generations": 2}
    timed = {"latency": "tables/latency.csv", "max_latency": 0.76}
    assert tiny_chain.run(root, "search", search={**search, **timed}) == 0
    found = pd.read_parquet(root / "results/search.parquet")
    assert found["latency_ms"].tolist() == pytest.approx([by_hand(one) for one in found["architecture"]])
    allowed = within(0.76)
    assert 5 < len(allowed) < 40
    assert set(found["architecture"]) <= allowed
    if method == "exhaustive":
        assert set(found["architecture"]) == allowed
        front = pd.read_parquet(root / "results/front.parquet")
        fastest = found.loc[found["latency_ms"] == found["latency_ms"].min(), "architecture"]
        assert set(fastest) & set(front["architecture"]), "nobody beats the fastest"
        told = json.loads((root / "results/search.json").read_text())
        chosen = "-".join(map(str, told["chosen"]["architecture"]))
        assert told["chosen"]["latency_ms"] == pytest.approx(by_hand(chosen))
        assert told["latency"]["batch"] == 1


def test_references_stay_within_the_limit_and_know_it_without_the_file(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path / "p")
    hand_written(root / "tables/latency.csv")
    search = {"method": "random", "candidates": 4, "latency": "tables/latency.csv", "max_latency": 0.85}
    assert tiny_chain.run(root, "search", search=search) == 0
    limit = json.loads((root / "results/architecture.json").read_text())["limits"]["max_latency_ms"]
    (root / "tables/latency.csv").unlink()
    retrain = {"epochs": 0, "batch_size": 32, "references": {"random": 3}}
    assert tiny_chain.run(root, "retrain", search=search, retrain=retrain) == 0
    references = load_references(root / "models/references.safetensors").values()
    names = ["-".join(map(str, one.meta["architecture"])) for one in references]
    assert len(names) == 4
    assert set(names) <= within(limit)
    assert len(within(limit)) < 64


def test_without_a_limit_another_measurement_reaches_no_file_that_others_depend_on(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path / "p")
    search = {"method": "random", "candidates": 4, "latency": "tables/latency.csv"}
    found = {}
    for factor in (1, 2):
        hand_written(root / "tables/latency.csv", [[factor * taken for taken in row] for row in BLOCKS])
        assert tiny_chain.run(root, "search", search=search) == 0
        told = (root / "results/architecture.json").read_bytes()
        found[told] = pd.read_parquet(root / "results/search.parquet")["latency_ms"].tolist()
        assert b"latency" not in told
    assert len(found) == 1
    assert tiny_chain.run(root, "search", search={**search, "latency": None}) == 0
    assert "latency_ms" not in pd.read_parquet(root / "results/search.parquet")


def test_the_cheapest_within_one_error_is_the_fastest(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path / "p")
    hand_written(root / "tables/latency.csv")
    search = {"method": "exhaustive", "choose": "cheapest-within-one-error", "latency": "tables/latency.csv"}
    assert tiny_chain.run(root, "search", search=search) == 0
    timed = json.loads((root / "results/search.json").read_text())
    assert timed["within_one_error"]["count"] > 1
    assert timed["chosen"]["latency_ms"] <= timed["best"]["latency_ms"]
    assert tiny_chain.run(root, "search", search={**search, "latency": None}) == 0
    untimed = json.loads((root / "results/search.json").read_text())
    assert untimed["chosen"]["macs"] < timed["chosen"]["macs"], "the fastest has not the fewest MACs"
    fewest = "-".join(map(str, untimed["chosen"]["architecture"]))
    assert by_hand(fewest) > timed["chosen"]["latency_ms"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_latency": 0.1}, "search.max_latency: found 0.1, expected at least 0.706, the smallest subnet's"),
        (
            {"method": "fixed", "architecture": [3, 1, 1], "max_latency": 1.0},
            "parameters and takes 1.29 ms, expected at most search.max_latency (1)",
        ),
        ({"latency": "tables/none.csv"}, "tables/none.csv: not found, expected a table that `imbnas latency` writes"),
        ({"latency": "tables/other.csv"}, "tables/other.csv: is of images of 32x8x1, expected 8x8x1"),
    ],
)
def test_what_cannot_be_is_one_line(
    chain: Path, tmp_path: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(chain, tmp_path / "p")
    hand_written(root / "tables/latency.csv")
    hand_written(root / "tables/other.csv", height=32)
    search = {"method": "random", "candidates": 4, "latency": "tables/latency.csv", **change}
    assert tiny_chain.run(root, "search", search=search) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_latency": 3.0}, "search.max_latency is 3.0 and latency is null, expected a table"),
        ({"max_latency": 0.0, "latency": "tables/t.csv"}, "search.max_latency"),
        ({"max_latency": "2x", "latency": "tables/t.csv"}, "search.max_latency"),
        ({"latency": "t.csv"}, "search.latency: found t.csv, expected a file below tables/"),
        ({"latency": "tables/t.csv", "method": "darts"}, "search.latency is tables/t.csv with method darts"),
    ],
)
def test_parameters_that_contradict_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(tiny_chain.changed(search={"method": "random", **change}), "p.yaml")
    assert message in str(caught.value)
