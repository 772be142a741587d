"""The whole chain in the modes that the tiny chain leaves out: the other space, bfloat16, every search method."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny_chain

from imbnas.training.weights import load_weights

SHORT = {"supernet__epochs": 1, "adapt__head": {"epochs": 1}, "retrain__epochs": 1, "search__candidates": 3}


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [
        {"space__name": "mobile", "space__mobile": {"kernels": [3, 5], "expansions": [2], "skip": True}},
        {"runtime__precision": "bf16"},
        {"runtime__channels_last": False, "supernet__label_smoothing": 0.1, "retrain__label_smoothing": 0.1},
    ],
    ids=["mobile", "bf16", "nchw-smoothing"],
)
def test_the_chain_runs_and_repeats_bit_for_bit(chain: Path, tmp_path: Path, mode: dict) -> None:
    steps = ("supernet", "adapt", "search", "retrain", "evaluate")
    found = []
    for place in ("first", "second"):
        root = tiny_chain.copy(chain, tmp_path / place)
        assert tiny_chain.run(root, *steps, **SHORT, **mode) == 0
        found.append(tiny_chain.digests(root, *steps))
    assert found[0] == found[1]
    base = tiny_chain.copy(chain, tmp_path / "base")
    assert tiny_chain.run(base, "supernet", **SHORT) == 0
    assert tiny_chain.digests(base, "supernet") != {k: v for k, v in found[0].items() if "supernet" in k}
    before, _ = load_weights(tmp_path / "first/models/supernet.safetensors")
    after, _ = load_weights(tmp_path / "first/models/adapted.safetensors")
    assert {name for name in before if not before[name].equal(after[name])} == {"head.weight", "head.bias"}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "expected"), [("evolution", 12), ("tpe", 3), ("nsga2", 12), ("random", 3)])
def test_each_search_method_fills_the_table(chain: Path, tmp_path: Path, method: str, expected: int) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    budget = {"search__population": 6, "search__generations": 2, "search__parents": 3, "search__candidates": 3}
    assert tiny_chain.run(root, "search", search__method=method, **budget) == 0
    assert len(pd.read_parquet(root / "results/search.parquet")) == expected
    assert json.loads((root / "results/architecture.json").read_text())["method"] == method
