"""The ETF classifier in the chain: in `retrain`, in `adapt` and in the differentiable searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chain
import torch
from torch import Tensor

from imbnas.differentiable.bilevel_search import SearchTrainer
from imbnas.errors import Interrupted
from imbnas.saved import load_subnet
from imbnas.training.checkpoint import load_weights
from imbnas.training.loop import Trainer

FINAL, ADAPTED = "models/final.safetensors", "models/adapted.safetensors"
NARROW = {**tiny_chain.PARAMS["space"], "last_channels": 6}
"""Fewer features than the nine dimensions of ten vectors."""
RETRAIN: dict[str, Any] = {
    "retrain__classifier": {"name": "etf", "scale": 8.0},
    "retrain__loss": "ce",
    "retrain__epochs": 2,
    "retrain__references": False,
}


def head_of(root: Path, name: str = FINAL) -> dict[str, Tensor]:
    state = load_weights(root / name)[0]
    return {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}


def check_simplex(vectors: Tensor) -> None:
    products = vectors.double() @ vectors.double().T
    expected = torch.full((10, 10), -1.0 / 9.0, dtype=torch.float64).fill_diagonal_(1.0)
    assert (products - expected).abs().max() < 1e-6


def test_a_network_is_trained_towards_fixed_vectors_and_measured(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    heads = []
    for epochs in (1, 2):
        assert tiny_chain.run(root, "retrain", "evaluate", **{**RETRAIN, "retrain__epochs": epochs}) == 0
        heads.append(head_of(root))
    assert set(heads[0]) == {"vectors"}
    assert torch.equal(heads[0]["vectors"], heads[1]["vectors"])
    check_simplex(heads[0]["vectors"])
    network = load_subnet(root / FINAL)
    assert network.meta["head"] == {"name": "etf", "scale": 8.0}
    scores = network.model(torch.randn(3, 1, 8, 8))
    assert scores.abs().max() <= 8.0 + 1e-5
    assert json.loads((root / "results/metrics.json").read_text())["balanced_accuracy"] > 0.05


def test_too_few_features_are_projected_and_a_stop_changes_no_bit(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (tiny_chain.copy(chain, tmp_path / name) for name in ("whole", "cut"))
    narrow = {**RETRAIN, "space": NARROW, "search__max_macs": None}
    before = ("supernet", "adapt", "search")
    quick = {"supernet__epochs": 0, "adapt__head": {"epochs": 0}, "search__candidates": 1, **narrow}
    assert tiny_chain.run(whole, *before, "retrain", **quick) == 0
    assert {name: tuple(value.shape) for name, value in head_of(whole).items()} == {
        "projection.weight": (9, 6),
        "vectors": (10, 9),
    }
    check_simplex(head_of(whole)["vectors"])
    assert tiny_chain.run(cut, *before, **quick) == 0
    real = Trainer.step

    def step(self: Trainer, batch: Tensor, labels: Tensor) -> Tensor:
        if self.done == 3:
            self._state.save(self.snapshot())
            raise Interrupted("stop")
        return real(self, batch, labels)

    monkeypatch.setattr(Trainer, "step", step)
    assert tiny_chain.run(cut, "retrain", **quick) == 143
    monkeypatch.setattr(Trainer, "step", real)
    assert tiny_chain.run(cut, "retrain", **quick) == 0
    assert tiny_chain.digests(cut, "retrain") == tiny_chain.digests(whole, "retrain")


def test_a_second_stage_may_give_it_a_linear_head(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    stage = {"retrain__head": {"name": "crt", "epochs": 1}}
    assert tiny_chain.run(root, "retrain", **{**RETRAIN, **stage, "retrain__epochs": 1}) == 0
    assert {name: tuple(value.shape) for name, value in head_of(root).items()} == {"weight": (10, 16), "bias": (10,)}


CELLS: dict[str, Any] = {
    "supernet__epochs": 0,
    "adapt__strategy": "scratch",
    "adapt__scratch": {"epochs": 0},
    "adapt__classifier": {"name": "etf"},
    "search__method": "darts",
    "search__max_macs": None,
    "search__calibration": {"rows": 64},
}
DARTS = {
    "space": {
        "name": "darts",
        "darts": {
            "channels": 2,
            "layers": 4,
            "derived_channels": 4,
            "derived_layers": 3,
            "operations": ["none", "skip_connect", "sep_conv_3x3"],
        },
    },
    "supernet__sampling": "mixture",
    "adapt__sampling": "mixture",
}
BENCHMARK = {
    "space": {
        "name": "nasbench201",
        "stem": {"channels": 4},
        "stages": {"channels": [4, 8, 16], "repeats": [1, 1, 1], "strides": [1, 2, 2]},
        "last_channels": None,
    }
}


@pytest.mark.parametrize(
    ("space", "options"),
    [(DARTS, {"order": "second"}), (DARTS, {"loss": "ldam"}), (BENCHMARK, {})],
    ids=["darts, second order", "darts, margins", "nasbench201"],
)
def test_a_differentiable_search_learns_towards_the_vectors(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: dict[str, Any], options: dict[str, Any]
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    ends: list[dict[str, Tensor]] = []
    check = SearchTrainer.check_finished

    def checked(self: SearchTrainer) -> None:
        check(self)
        learned = self.descent.learner.state_dict()
        ends.append({key.rpartition("head.")[2]: value for key, value in learned.items() if "head." in key})

    monkeypatch.setattr(SearchTrainer, "check_finished", checked)
    change = {**CELLS, **space, "search__darts": {"epochs": 1, "batch_size": 70, **options}}
    assert tiny_chain.run(root, "supernet", "adapt", "search", **change) == 0
    first, (last,) = head_of(root, ADAPTED), ends
    assert first.keys() == last.keys()
    assert torch.equal(first["vectors"], last["vectors"])
    check_simplex(last["vectors"])
    if "projection.weight" in first:
        assert not np.allclose(first["projection.weight"], last["projection.weight"])
