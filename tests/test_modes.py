"""The whole chain in the modes that the tiny chain leaves out: other spaces, bfloat16, every search method."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny_chain

from imbnas.run.graph import STEPS
from imbnas.saved import load_subnet
from imbnas.training.checkpoint import load_weights

SHORT = {"supernet__epochs": 1, "adapt__head": {"epochs": 1}, "retrain__epochs": 1, "search__candidates": 3}


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [
        {"space__name": "mobile", "space__mobile": {"kernels": [3, 5], "expansions": [2], "skip": True}},
        {"space__name": "nasbench201", "space__last_channels": None},
        {"runtime__precision": "bf16"},
        {"runtime__channels_last": False, "supernet__label_smoothing": 0.1, "retrain__label_smoothing": 0.1},
    ],
    ids=["mobile", "nasbench201", "bf16", "nchw-smoothing"],
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


@pytest.mark.parametrize("architecture", [None, [0, 0, 0]], ids=["null", "given"])
def test_a_fixed_network_needs_neither_supernet_training_nor_validation_rows(
    chain: Path, tmp_path: Path, architecture: list[int] | None
) -> None:
    """The way of the literature's cells: one ResNet, trained on the long tail alone and tested."""
    root = tiny_chain.copy(chain, tmp_path)
    cell = {
        "space__name": "resnet",
        "space__last_channels": None,
        "target__validation": {"per_class": 0},
        "supernet__epochs": 0,
        "adapt__strategy": "scratch",
        "adapt__scratch": {"epochs": 0},
        "search__method": "fixed",
        "search__architecture": architecture,
        "retrain__references": False,
    }
    assert tiny_chain.run(root, *STEPS, **cell) == 0
    record = json.loads((root / "results/architecture.json").read_text())
    # Stem, three blocks of 8, 16 and 16 channels with BatchNorm, and the head.
    params = (9 * 8 + 16) + 2 * (9 * 64 + 16) + (9 * 128 + 9 * 256 + 64) + 2 * (9 * 256 + 32) + 170
    assert record["chosen"]["params"] == params
    assert record["chosen"]["architecture"] == [0, 0, 0]
    network = load_subnet(root / "models/final.safetensors")
    assert sum(p.numel() for p in network.model.parameters()) == params
    metrics = json.loads((root / "results/metrics.json").read_text())
    assert metrics["params"] == params
    # Three epochs of about a hundred rows: far from chance is enough.
    assert metrics["balanced_accuracy"] > 0.2
