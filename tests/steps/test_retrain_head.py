"""The second stage of `retrain`: what each head is made of, and what it leaves alone."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import get_args

import pytest
import tiny_chain
import torch
from torch import Tensor

from imbnas.errors import Interrupted
from imbnas.params.head_options import HEADS, HeadName, SecondStageName
from imbnas.saved import load_subnet
from imbnas.steps.head_stages import HEAD_STAGES
from imbnas.steps.retrain_head import SECOND_STAGES
from imbnas.training.checkpoint import load_weights
from imbnas.training.loop import Trainer
from imbnas.training.turns import Turns

FINAL = "models/final.safetensors"
TINY = {"per_class": 30, "profile": "per-class", "diffusion": {"epochs": 3, "timesteps": 5}}


def staged(name: str, **more: object) -> dict[str, object]:
    head = {"name": name, "epochs": 4, "batch_size": 32, "synthesis": TINY, **more}
    return {"retrain__head": head, "retrain__loss": "ce", "retrain__epochs": 12, "retrain__references": False}


@pytest.fixture(scope="module")
def plain(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose network was trained with plain cross-entropy, without a second stage."""
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("plain"))
    assert tiny_chain.run(root, "retrain", **staged("none")) == 0
    return root


@pytest.fixture(scope="module")
def heads(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of projects with one head each."""
    folder = tmp_path_factory.mktemp("second")
    for name in HEADS:
        root = tiny_chain.copy(plain, folder / name)
        assert tiny_chain.run(root, "retrain", "evaluate", **staged(name, tau=0.5)) == 0
    return folder


def state(root: Path) -> dict[str, Tensor]:
    return load_weights(root / FINAL)[0]


def backbone(root: Path) -> dict[str, Tensor]:
    return {key: value for key, value in state(root).items() if not key.startswith("head.")}


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


@pytest.mark.parametrize("name", HEADS)
def test_the_backbone_and_its_buffers_stay_bit_for_bit(heads: Path, plain: Path, name: str) -> None:
    assert any("running_var" in key for key in backbone(plain))
    assert differing(backbone(heads / name), backbone(plain)) == set()
    metrics = json.loads((heads / name / "results/metrics.json").read_text())
    assert metrics["balanced_accuracy"] > 0.15


@pytest.mark.parametrize(("mode", "moved"), [("batch", ()), ("update", ("running_mean", "running_var", "num_batches"))])
def test_the_other_modes_move_statistics_at_most(
    plain: Path, tmp_path: Path, mode: str, moved: tuple[str, ...]
) -> None:
    root = tiny_chain.copy(plain, tmp_path)
    assert tiny_chain.run(root, "retrain", **staged("crt", batchnorm=mode)) == 0
    changed = differing(backbone(root), backbone(plain))
    assert bool(changed) == bool(moved)
    assert all(key.rpartition(".")[2].startswith(moved) for key in changed)
    assert not torch.equal(state(root)["head.weight"], state(plain)["head.weight"])


def test_corrections_start_from_the_trained_head(heads: Path, plain: Path) -> None:
    trained, meta = load_weights(plain / FINAL)
    weight, counts = trained["head.weight"], torch.tensor(meta["trained_counts"], dtype=torch.float64)
    adjusted = state(heads / "logit-adjustment")
    assert torch.equal(adjusted["head.weight"], weight)
    expected = trained["head.bias"].double() - (counts / counts.sum()).log()
    torch.testing.assert_close(adjusted["head.bias"].double(), expected, rtol=1e-6, atol=1e-6)
    normalised = state(heads / "tau-norm")["head.weight"]
    torch.testing.assert_close(normalised, weight / weight.norm(dim=1, keepdim=True) ** 0.5)
    scaled = state(heads / "lws")
    scales = (scaled["head.weight"] * weight).sum(dim=1) / weight.square().sum(dim=1)
    torch.testing.assert_close(scaled["head.weight"], scales[:, None] * weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scaled["head.bias"], scales * trained["head.bias"], rtol=1e-4, atol=1e-6)
    assert (scales - 1).abs().max() > 1e-3
    assert state(heads / "ncm").keys() >= {"head.mean", "head.centroids"}
    assert load_subnet(heads / "cosine" / FINAL).meta["head"] == {"name": "cosine", "scale": 30.0}


def test_another_head_does_not_train_the_network_again_and_gives_the_same_bytes(
    plain: Path, heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(plain, tmp_path)
    shutil.rmtree(root / ".imbnas" / "kept")
    assert tiny_chain.run(root, "retrain", **staged("lws", tau=0.5)) == 0
    assert tiny_chain.digests(root, "retrain") == tiny_chain.digests(heads / "lws", "retrain")
    trained: list[object] = []
    real = Trainer.turns
    monkeypatch.setattr(Trainer, "turns", lambda self: (trained.append(self.training), real(self))[1])
    assert tiny_chain.run(root, "retrain", **staged("ncm", tau=0.5)) == 0
    assert trained == []
    cost = json.loads((root / "results/cost-details.json").read_text())["steps"]["retrain"]["seconds"]
    kept = next((root / ".imbnas" / "kept" / "retrain").glob("*.json"))
    assert cost > json.loads(kept.read_text())["seconds"]
    assert tiny_chain.digests(root, "retrain") == tiny_chain.digests(heads / "ncm", "retrain")
    assert tiny_chain.run(root, "retrain", **staged("none")) == 0
    assert trained == [], "the first stage is that of an earlier run with another head"
    assert tiny_chain.run(root, "retrain", **{**staged("ncm"), "retrain__epochs": 2}) == 0
    assert len(trained) == 1, "other parameters of the first stage train it anew"


def test_a_network_s_seconds_count_once_whoever_trained_it(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, real, slept = tiny_chain.copy(chain, tmp_path), Trainer.turns, 0.5
    shutil.rmtree(root / ".imbnas" / "kept", ignore_errors=True)
    trained = 0

    def slow(self: Trainer) -> Turns[list[float]]:
        nonlocal trained
        if self.training.name != "retrain":
            return real(self)
        trained += 1
        if trained == 2:
            raise Interrupted("stop")
        time.sleep(slept)
        return real(self)

    def timed(head: str) -> tuple[int, float]:
        begin = time.monotonic()
        code = tiny_chain.run(root, "retrain", **{**staged(head), "retrain__references": True, "retrain__epochs": 1})
        return code, time.monotonic() - begin

    def recorded() -> tuple[float, list[float]]:
        kept = sorted((root / ".imbnas" / "kept" / "retrain").glob("*.json"))
        cost = json.loads((root / "results/cost-details.json").read_text())["steps"]["retrain"]["seconds"]
        return cost, [json.loads(file.read_text())["seconds"] for file in kept]

    monkeypatch.setattr(Trainer, "turns", slow)
    (stopped, first), (ended, second) = timed("crt"), timed("crt")
    assert (stopped, ended) == (143, 0)
    cost, kept = recorded()
    assert trained - 1 == len(kept) >= 2
    assert len(kept) * slept < cost <= first + second + 0.01
    assert min(kept) > slept
    assert sum(kept) < cost
    # Another head takes the networks and what they took, and adds what it takes itself.
    code, third = timed("ncm")
    assert code == 0
    assert recorded()[0] == pytest.approx(sum(kept) + third, abs=0.2)
    # Stopped before the second network, another head finds the first, which is no part of its own time.
    shutil.rmtree(root / ".imbnas" / "kept")
    trained = 0
    assert timed("crt")[0] == 143
    assert timed("lws")[0] == 0
    assert min(recorded()[1]) > slept


def test_views_are_augmented_passes(plain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(plain, tmp_path)
    found = {}
    for views in (0, 1, 2):
        assert tiny_chain.run(root, "retrain", **staged("linear", views=views)) == 0
        found[views] = state(root)["head.weight"]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_an_exponent_that_overflows_is_refused(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny_chain.copy(plain, tmp_path)
    assert tiny_chain.run(root, "retrain", **staged("tau-norm", tau=1e6)) == 2
    assert "head.tau: 1e+06 makes weights that are not finite, expected a smaller one" in capsys.readouterr().err


def test_tau_auto_needs_validation_rows(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    none = {"search__method": "fixed", "search__architecture": [0] * 3, "target__validation": {"per_class": 0}}
    assert tiny_chain.run(root, "target", "imbalance", **none) == 0
    assert tiny_chain.run(root, "retrain", **staged("tau-norm")) == 2
    assert "data/target/validation: holds no rows, expected some for retrain.head.tau auto" in capsys.readouterr().err


def test_a_kill_in_the_head_stage_repeats_no_training_and_leaves_no_state(
    heads: Path, chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    shutil.rmtree(root / ".imbnas" / "kept", ignore_errors=True)
    real = Trainer.turns
    trained: list[str] = []

    def killed(self: Trainer) -> Turns[list[float]]:
        if self.training.name == "retrain-head":
            raise MemoryError("killed")
        return real(self)

    monkeypatch.setattr(Trainer, "turns", killed)
    with pytest.raises(MemoryError):
        tiny_chain.run(root, "retrain", **staged("crt", tau=0.5))
    assert list((root / ".imbnas" / "resume" / "retrain").glob("*.pt"))
    monkeypatch.setattr(Trainer, "turns", lambda self: (trained.append(self.training.name), real(self))[1])
    assert tiny_chain.run(root, "retrain", **staged("crt", tau=0.5)) == 0
    assert trained == ["retrain-head"]
    assert list((root / ".imbnas" / "resume" / "retrain").glob("*.pt")) == []
    assert tiny_chain.digests(root, "retrain") == tiny_chain.digests(heads / "crt", "retrain")


def test_every_head_of_the_parameters_is_made() -> None:
    """Those that generate features by `retrain` alone, the others by both steps."""
    assert tuple(HEAD_STAGES) == get_args(HeadName) == tuple(name for name in HEADS if not HEADS[name].generates)
    assert tuple(SECOND_STAGES) == tuple(HEADS)
    assert get_args(SecondStageName) == ("none", *HEADS)
