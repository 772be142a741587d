"""Distillation in `retrain` and in the supernet's trainings: who teaches, who is taught, what is kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_chain
import torch

from imbnas.params.config import parse
from imbnas.steps.first_stage import Teacher, kept_network
from imbnas.training.checkpoint import load_meta, load_weights
from imbnas.training.loop import Trainer

FINAL, REFERENCES = "models/final.safetensors", "models/references.safetensors"
DISTILLED: dict[str, Any] = {
    "retrain__distill": {"teacher": "largest", "weight": 0.5},
    "retrain__references": {"random": 0, "largest": True},
}


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Trainer]:
    """Collect the trainings that are done."""
    found: list[Trainer] = []
    real = Trainer.turns
    monkeypatch.setattr(Trainer, "turns", lambda self: (found.append(self), real(self))[1])
    return found


def test_the_largest_subnet_teaches_all_and_is_trained_once(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: list[Trainer]
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    undistilled, plain = load_weights(chain / REFERENCES)
    assert "distill" not in plain["recipe"]
    assert "teacher" not in plain
    assert tiny_chain.run(root, "retrain", **DISTILLED) == 0
    # A run without distillation has kept the teacher: the chosen network and the reference are left.
    assert len(fits) == 2
    for fit in fits:
        assert fit.training.teacher is not None
        state = fit.training.teacher.state_dict()
        assert all(torch.equal(value, undistilled[f"largest.{name}"]) for name, value in state.items())
        assert all(p.grad is None and not p.requires_grad for p in fit.training.teacher.parameters())
    tensors, meta = load_weights(root / REFERENCES)
    assert not torch.equal(tensors["largest.head.weight"], undistilled["largest.head.weight"])
    assert meta["recipe"]["distill"] == {"teacher": "largest", "weight": 0.5, "temperature": 4.0}
    assert meta["teacher"]["architecture"] == meta["networks"]["largest"]["architecture"]
    assert meta["teacher"]["macs"] == meta["networks"]["largest"]["macs"]
    expected = tiny_chain.digests(root, "retrain")
    # Trained here, and killed while the first network follows it.
    shutil.rmtree(root / ".imbnas/kept/retrain")
    steps, real = 0, Trainer.step

    def counted(self: Trainer, *given: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == self.steps + 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *given)

    monkeypatch.setattr(Trainer, "step", counted)
    assert tiny_chain.run(root, "retrain", **DISTILLED) == 143
    assert [fit.training.teacher is None for fit in fits[2:]] == [True, False]
    assert tiny_chain.run(root, "retrain", **DISTILLED) == 0
    assert steps == 3 * fits[0].steps
    assert tiny_chain.digests(root, "retrain") == expected


def test_a_network_is_kept_for_its_teacher_alone() -> None:
    """Another limit of the search, which no parameter of `retrain` tells, makes another network the teacher."""

    def kept_path(text: str, apart: Any) -> Path:
        return Path(hashlib.sha256(text.encode()).hexdigest())

    step: Any = SimpleNamespace(context=SimpleNamespace(kept_path=kept_path))
    view: Any = parse({"retrain": {"distill": {"teacher": "largest"}}}, "p.yaml").view("retrain")
    plain: Any = parse({}, "p.yaml").view("retrain")
    teachers = [None, *(Teacher(torch.nn.Identity(), tag, {}) for tag in ("3-3-3", "3-3-2"))]
    places = {kept_network(step, view, "0-1-2", teacher).base for teacher in teachers}
    assert len(places | {kept_network(step, plain, "0-1-2", None).base}) == 4


@pytest.mark.parametrize("step", ["supernet", "adapt"])
def test_in_place_distillation_trains_otherwise_and_is_told(chain: Path, tmp_path: Path, step: str) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    changes = {f"{step}__sampling": "sandwich", "supernet__epochs": 1, "adapt__strategy": "finetune"}
    output = root / f"models/{'supernet' if step == 'supernet' else 'adapted'}.safetensors"
    assert tiny_chain.run(root, step, **changes) == 0
    assert "inplace_distillation" not in load_meta(output)["recipe"]
    before = output.read_bytes()
    assert tiny_chain.run(root, step, **changes, **{f"{step}__inplace_distillation": True}) == 0
    assert load_meta(output)["recipe"]["inplace_distillation"] is True
    tensors, other = load_weights(output)[0], tmp_path / "before.safetensors"
    other.write_bytes(before)
    assert not torch.equal(tensors["head.weight"], load_weights(other)[0]["head.weight"])
