"""Step `adapt`: what each strategy may change, and what it must leave alone bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_chain
import torch
from torch import Tensor

from imbnas.training.checkpoint import load_weights, save_weights

SUPERNET, ADAPTED = "models/supernet.safetensors", "models/adapted.safetensors"


def weights(root: Path, name: str) -> dict[str, Tensor]:
    return load_weights(root / name, "supernet")[0]


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


def test_head_changes_the_head_and_not_one_bit_of_the_backbone(chain: Path) -> None:
    assert differing(weights(chain, SUPERNET), weights(chain, ADAPTED)) == {"head.weight", "head.bias"}


def test_none_keeps_every_tensor_but_normalises_like_the_target(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "adapt", adapt__strategy="none") == 0
    assert differing(weights(root, SUPERNET), weights(root, ADAPTED)) == set()
    source, target = (load_weights(root / name)[1] for name in (SUPERNET, ADAPTED))
    assert source["mean"] != target["mean"]


def test_none_across_different_classes_is_refused(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    tensors, meta = load_weights(root / SUPERNET)
    save_weights(root / SUPERNET, tensors, {**meta, "classes": [f"other {k}" for k in range(10)]})
    assert tiny_chain.run(root, "adapt", adapt__strategy="none") == 2
    error = capsys.readouterr().err
    assert "adapt.strategy: none keeps the source's head" in error
    assert error.strip().splitlines()[-1].startswith("error: ")


def test_finetune_starts_from_the_source_and_changes_every_weight(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "adapt", adapt__strategy="finetune", adapt__finetune={"epochs": 0}) == 0
    assert differing(weights(root, SUPERNET), weights(root, ADAPTED)) == set()
    assert tiny_chain.run(root, "adapt", adapt__strategy="finetune") == 0
    changed = differing(weights(root, SUPERNET), weights(root, ADAPTED))
    convolutions = {name for name, value in weights(root, SUPERNET).items() if value.ndim > 1}
    assert convolutions <= changed


def test_scratch_owes_nothing_to_the_source(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "adapt", adapt__strategy="scratch") == 0
    first = weights(root, ADAPTED)
    tensors, meta = load_weights(root / SUPERNET)
    noise = {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in tensors.items()}
    save_weights(root / SUPERNET, noise, meta)
    assert tiny_chain.run(root, "adapt", adapt__strategy="scratch") == 0
    assert differing(first, weights(root, ADAPTED)) == set()


def test_loss_weighting_and_deferral_reach_the_head(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    heads = {}
    for name, change in {
        "ce": {"adapt__loss": "ce"},
        "weighted": {"adapt__weighting": {"defer": 0.0}},
        "deferred": {"adapt__weighting": {"defer": 0.5}},
        "never": {"adapt__weighting": {"defer": 0.99}},
        "inverse": {"adapt__loss": "inverse-frequency", "adapt__weighting": {"defer": 0.0}},
        "batch-mean": {"adapt__weighting": {"defer": 0.0, "reduction": "batch-mean"}},
    }.items():
        assert tiny_chain.run(root, "adapt", **change) == 0
        heads[name] = weights(root, ADAPTED)["head.weight"]
    assert torch.equal(heads["ce"], heads["never"]), "weights that never come on are cross-entropy"
    names = ["ce", "weighted", "deferred", "inverse", "batch-mean"]
    equal = [(a, b) for a in names for b in names if a < b and torch.equal(heads[a], heads[b])]
    assert equal == []


def test_a_supernet_of_another_space_is_refused(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "adapt", space__last_channels=24) == 2
    assert "made for another space" in capsys.readouterr().err
