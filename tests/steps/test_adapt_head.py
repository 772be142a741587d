"""Heads on the frozen supernet: what each one is made of, and that the backbone never changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_chain
import torch
import torch.nn.functional as F
from torch import Tensor

from imbnas.errors import Interrupted
from imbnas.steps import adapt_head
from imbnas.training.checkpoint import load_weights
from imbnas.training.loop import Trainer
from imbnas.training.turns import Turns

SUPERNET, ADAPTED = "models/supernet.safetensors", "models/adapted.safetensors"
HEADS = ["linear", "cosine", "crt", "lws", "tau-norm", "ncm", "logit-adjustment"]


@pytest.fixture(scope="module")
def adapted(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of projects, one for each head, adapted and searched."""
    folder = tmp_path_factory.mktemp("heads")
    for name in HEADS:
        root = tiny_chain.copy(chain, folder / name)
        change = {"adapt__head": {"epochs": 2, "name": name, "tau": 0.5}}
        assert tiny_chain.run(root, "adapt", "search", **change) == 0
    return folder


def weights(root: Path) -> dict[str, Tensor]:
    return load_weights(root / ADAPTED, "supernet")[0]


@pytest.mark.parametrize("name", HEADS)
def test_no_bit_of_the_backbone_changes_and_the_search_runs(adapted: Path, name: str) -> None:
    before, after = load_weights(adapted / name / SUPERNET)[0], weights(adapted / name)
    backbone = [key for key in before if not key.startswith("head.")]
    assert any("running_mean" in key for key in backbone)
    assert [key for key in backbone if not torch.equal(before[key], after[key])] == []
    record = json.loads((adapted / name / "results/architecture.json").read_text())
    assert 0.0 < record["chosen"]["score"] <= 1.0


def test_a_head_learns_the_same_from_all_paths_in_one_pass(chain: Path, adapted: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "adapt", adapt__head={"epochs": 2}, adapt__passes="together") == 0
    separate, together = weights(adapted / "linear"), weights(root)
    torch.testing.assert_close(together, separate, rtol=1e-3, atol=1e-5)
    backbone = [key for key in separate if not key.startswith("head.")]
    assert [key for key in backbone if not torch.equal(together[key], separate[key])] == []
    assert load_weights(root / ADAPTED)[1]["recipe"]["passes"] == "together"


def test_the_file_says_which_head_it_holds(adapted: Path) -> None:
    described = {name: load_weights(adapted / name / ADAPTED)[1]["head"] for name in HEADS}
    assert described.pop("cosine") == {"name": "cosine", "scale": 30.0}
    assert described.pop("ncm") == {"name": "ncm"}
    assert set(map(str, described.values())) == {"{'name': 'linear'}"}


def test_corrections_are_of_one_plainly_trained_head(adapted: Path) -> None:
    plain, meta = load_weights(adapted / "logit-adjustment" / ADAPTED)
    counts = torch.tensor(meta["counts"], dtype=torch.float64)
    weight = plain["head.weight"]
    normalised = weights(adapted / "tau-norm")
    assert torch.equal(normalised["head.bias"], torch.zeros(10))
    norms = weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(normalised["head.weight"], weight / norms**0.5)
    scaled = weights(adapted / "lws")
    scales = (scaled["head.weight"] / weight)[:, 0]
    torch.testing.assert_close(scaled["head.weight"], scales[:, None] * weight, rtol=1e-4, atol=1e-7)
    assert (scales - 1.0).abs().max() > 1e-3
    bias = plain["head.bias"].double() + (counts / counts.sum()).log()
    torch.testing.assert_close(scaled["head.bias"].double(), scales.double() * bias, rtol=1e-3, atol=1e-5)
    assert not torch.equal(weight, weights(adapted / "crt")["head.weight"])


def test_class_means_are_of_unit_features(adapted: Path) -> None:
    head = weights(adapted / "ncm")
    assert set(key for key in head if key.startswith("head.")) == {"head.mean", "head.centroids"}
    lengths = head["head.centroids"].norm(dim=1)
    assert float(lengths.max()) <= 1.0 + 1e-6
    assert float(F.normalize(head["head.centroids"]).std(dim=0).max()) > 0.01


def test_the_statistics_of_features_are_those_of_all_classes(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    monkeypatch.setattr(adapt_head, "FEATURE_BATCH", 60)
    real, seen = adapt_head.compute_features, []
    sizes: list[list[int]] = []

    def watched(network, batches, *arguments):  # type: ignore[no-untyped-def]
        kept = list(batches)
        seen.append([len(set(labels.tolist())) for _, labels in kept])
        sizes.append([len(labels) for _, labels in kept])
        return real(network, kept, *arguments)

    monkeypatch.setattr(adapt_head, "compute_features", watched)
    assert tiny_chain.run(root, "adapt", adapt__head={"epochs": 0, "name": "ncm", "paths": 2}) == 0
    # Class by class, the first batch of the rows would hold one class alone.
    assert len(seen) == 2
    assert min(min(batches) for batches in seen) >= 5
    assert all(max(batches) - min(batches) <= 1 for batches in sizes), "a last one of a single row has no variance"


def test_tau_is_chosen_on_validation_rows(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    change = {"adapt__head": {"epochs": 2, "name": "tau-norm"}}
    assert tiny_chain.run(root, "adapt", **change) == 0
    log = (root / "logs/adapt.log").read_text()
    tau = float(log.split("tau-norm: tau ")[1].split()[0])
    assert tau in np.round(np.arange(21) * 0.1, 1)
    first = weights(root)["head.weight"]
    assert tiny_chain.run(root, "adapt", adapt__head={"epochs": 2, "name": "tau-norm", "tau": tau}) == 0
    assert torch.equal(first, weights(root)["head.weight"])
    for name in ("target/validation/index.parquet",):
        (root / "data" / name).write_bytes(b"")
    capsys.readouterr()
    assert tiny_chain.run(root, "adapt", adapt__head={"epochs": 1, "name": "tau-norm", "tau": 0.3}) == 0


def test_a_kill_between_the_stages_of_lws_repeats_nothing_and_changes_no_bit(
    adapted: Path, chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    change = {"adapt__head": {"epochs": 2, "name": "lws", "tau": 0.5}}
    real, trained = Trainer.turns, []

    def stopped(trainer: Trainer) -> Turns[list[float]]:
        if trainer.training.name == "adapt-scales":
            raise Interrupted("stop")
        return real(trainer)

    monkeypatch.setattr(Trainer, "turns", stopped)
    assert tiny_chain.run(root, "adapt", **change) == 143
    monkeypatch.setattr(Trainer, "turns", real)
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *a: (trained.append(self.training.name), step(self, *a))[1])
    assert tiny_chain.run(root, "adapt", **change) == 0
    assert set(trained) == {"adapt-scales"}
    assert tiny_chain.digests(root, "adapt") == tiny_chain.digests(adapted / "lws", "adapt")


def test_ldam_needs_a_cosine_head_and_gets_one(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "adapt", adapt__loss="ldam", adapt__strategy="finetune") == 0
    state, meta = load_weights(root / ADAPTED)
    assert meta["head"] == {"name": "cosine", "scale": 30.0}
    assert "head.bias" not in state
