"""The heads of `retrain` that learn from generated features: what they are trained on, and where they go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chain
import torch
from torch import Tensor

from imbnas.errors import Interrupted
from imbnas.longtail.generators import Generated
from imbnas.longtail.mixing import Mixed
from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.params.head_options import HEADS
from imbnas.params.section import merged
from imbnas.run.graph import STEPS
from imbnas.run.runner import run_step
from imbnas.steps.retrain_generated import GENERATORS, Enlarged, Real
from imbnas.training.checkpoint import load_weights
from imbnas.training.loop import Trainer

FINAL = "models/final.safetensors"


def staged(name: str, profile: str = "balanced", **more: Any) -> dict[str, Any]:
    synthesis = {"profile": profile, "diffusion": {"epochs": 4, "timesteps": 5}}
    head = {"name": name, "epochs": 3, "batch_size": 64, "synthesis": synthesis, **more}
    return {"retrain__head": head, "retrain__loss": "ce", "retrain__epochs": 2, "retrain__references": False}


@pytest.fixture(scope="module")
def plain(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("plain"))
    assert tiny_chain.run(root, "retrain", **staged("none")) == 0
    return root


def head(root: Path) -> Tensor:
    return load_weights(root / FINAL)[0]["head.weight"]


class Watched:
    """The trainings of a run, by name, with the labels that they saw in their first epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, list[Any]] = {}
        real = Trainer.step

        def step(trainer: Trainer, batch: Tensor, labels: Tensor) -> Tensor:
            if trainer.done < trainer.per_epoch:
                self.seen.setdefault(trainer.training.name, []).append(labels.clone())
            return real(trainer, batch, labels)

        monkeypatch.setattr(Trainer, "step", step)

    def counts(self, name: str) -> list[int]:
        return torch.bincount(torch.cat(self.seen[name])).tolist()


def test_heads_that_generate_have_a_generator() -> None:
    assert set(GENERATORS) == {name for name, entry in HEADS.items() if entry.generates}


@pytest.mark.parametrize("name", ["latent-diffusion", "gaussian"])
def test_the_head_sees_the_profile_and_the_backbone_stays(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root, watched = tiny_chain.copy(plain, tmp_path), Watched(monkeypatch)
    counts = load_weights(plain / FINAL)[1]["trained_counts"]
    assert tiny_chain.run(root, "retrain", **staged(name)) == 0
    assert watched.counts("retrain-head") == [max(counts)] * len(counts)
    if name == "latent-diffusion":
        assert watched.counts("retrain-head-diffusion") == counts
    before, after = load_weights(plain / FINAL)[0], load_weights(root / FINAL)[0]
    assert {key for key in before if not torch.equal(before[key], after[key])} == {"head.weight", "head.bias"}
    first = head(root)
    assert tiny_chain.run(root, "retrain", **staged(name, "published")) == 0
    assert not torch.equal(head(root), first)


def test_epochs_0_leaves_the_trained_head_bit_for_bit(plain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(plain, tmp_path)
    assert tiny_chain.run(root, "retrain", **staged("latent-diffusion", epochs=0)) == 0
    assert torch.equal(head(root), head(plain))
    assert load_weights(root / FINAL)[1]["head"] == {"name": "linear"}


@pytest.mark.parametrize("where", ["retrain-head-diffusion", "retrain-head"])
def test_a_stop_within_either_training_changes_no_bit(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    whole, cut = (tiny_chain.copy(plain, tmp_path / name) for name in ("whole", "cut"))
    assert tiny_chain.run(whole, "retrain", **staged("latent-diffusion")) == 0
    real, stopped = Trainer.step, []

    def step(self: Trainer, batch: Tensor, labels: Tensor) -> Tensor:
        if self.training.name == where and self.done == self.per_epoch + 1 and not stopped:
            stopped.append(self.done)
            self._state.save(self.snapshot())
            raise Interrupted("stop")
        return real(self, batch, labels)

    monkeypatch.setattr(Trainer, "step", step)
    assert tiny_chain.run(cut, "retrain", **staged("latent-diffusion")) == 143
    trained: list[tuple[str, int]] = []

    def counted(self: Trainer, batch: Tensor, labels: Tensor) -> Tensor:
        trained.append((self.training.name, self.done))
        return real(self, batch, labels)

    monkeypatch.setattr(Trainer, "step", counted)
    assert tiny_chain.run(cut, "retrain", **staged("latent-diffusion")) == 0
    assert trained[0] == (where, stopped[0])
    assert tiny_chain.digests(cut, "retrain") == tiny_chain.digests(whole, "retrain")
    assert list((cut / ".imbnas" / "resume" / "retrain").glob("*.pt")) == []


def test_an_epoch_sees_each_row_in_its_view_and_each_generated_feature_once() -> None:
    features, labels = torch.arange(6.0)[:, None], torch.tensor([0, 1, 1, 0, 1, 1])
    made = Generated.of_classes(torch.tensor([[100.0], [101.0]]), torch.tensor([0, 0]))
    enlarged = Enlarged(Real(features, labels, views=2), made, 2, seed=0)
    assert not enlarged.paired
    for epoch, rows in enumerate([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [0.0, 1.0, 2.0]]):
        ((seen, classes),) = enlarged.store.batches([enlarged.epoch(epoch)])
        assert sorted(seen.flatten().tolist()) == [*rows, 100.0, 101.0]
        assert sorted(classes.tolist()) == [0, 0, 0, 1, 1]


def test_mixtures_reach_the_loss_with_both_labels() -> None:
    features, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    pairs = Mixed(torch.tensor([1, 0]), torch.tensor([0, 0]), torch.tensor([0.75, 0.6], dtype=torch.float64))
    enlarged = Enlarged(Real(features, labels, 1), Generated(torch.tensor([[5.0], [6.0]]), pairs), 2, seed=0)
    ((seen, codes),) = enlarged.store.batches([np.array([3, 0, 2, 1])])
    same, decoded = enlarged.decode(seen, codes, torch.Generator())
    assert same.flatten().tolist() == [6.0, 0.0, 5.0, 1.0]
    assert [part.tolist() for part in decoded] == [[0, 0, 1, 1], [0, 0, 0, 1], [0.6, 1.0, 0.75, 1.0]]


def test_the_preset_runs_on_a_tiny_network(tmp_path: Path) -> None:
    small = {
        "space": {"stem": {"channels": 4}, "stages": {"channels": [4, 8, 8], "repeats": [1, 1, 1]}},
        "runtime": {"device": "cpu", "threads": 1, "workers": 0},
        "target": {"dataset": "digits", "root": "datasets/digits", "download": False},
        "imbalance": {"ratio": 20.0},
        "retrain": {"epochs": 1, "head": {"epochs": 1, "synthesis": {"diffusion": {"epochs": 1, "timesteps": 3}}}},
        "evaluate": {"resamples": 20},
    }
    params = parse(merged(Params, presets.params("latent-diffusion-cifar10-lt").tree(), small), "preset")
    for step in STEPS:
        assert run_step(step, params, tmp_path, log_file=tmp_path / f"{step}.log") == 0, step
    assert "latent-diffusion: " in (tmp_path / "retrain.log").read_text()
    assert load_weights(tmp_path / FINAL)[1]["recipe"]["head"]["synthesis"]["profile"] == "balanced"
    metrics = json.loads((tmp_path / "results/metrics.json").read_text())
    assert 0.0 < metrics["balanced_accuracy"] <= 1.0
