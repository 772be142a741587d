"""The networks of `retrain` side by side: the same bytes, whoever was stopped, and each one's share of the seconds."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_chain
import torch

from imbnas.training.loop import Trainer
from imbnas.training.state import ResumeState


def test_stopped_side_by_side_and_resumed_beside_fewer_they_end_in_the_same_bytes(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    shutil.rmtree(root / ".imbnas/kept", ignore_errors=True)
    tick, step, seen, taken = ResumeState.tick, Trainer.step, [], []

    def stopping(self: ResumeState, state: Callable[[], dict[str, Any]]) -> None:
        seen.append(self.path)
        if len(seen) == 20:
            os.kill(os.getpid(), signal.SIGTERM)
        tick(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "tick", stopping)
        assert tiny_chain.run(root, "retrain", runtime__together=3) == 143
    assert len(set(seen)) == 3, "the fourth network has not begun"
    assert len(list((root / ".imbnas/resume/retrain").glob("*.pt"))) == 3
    monkeypatch.setattr(Trainer, "step", lambda self, *a: (taken.append(self), step(self, *a))[1])
    assert tiny_chain.run(root, "retrain", runtime__together=2) == 0
    assert tiny_chain.digests(root, "retrain") == tiny_chain.digests(chain, "retrain")
    # Each step was taken once, before the stop or after it.
    assert len(taken) + len(seen) == 4 * taken[0].steps
    log = (root / "logs/retrain.log").read_text()
    assert log.count("goes on from optimiser step") == 3
    kept = [json.loads(file.read_text())["seconds"] for file in (root / ".imbnas/kept/retrain").glob("*.json")]
    cost = json.loads((root / "results/cost-details.json").read_text())["steps"]["retrain"]["seconds"]
    assert len(kept) == 4
    assert all(seconds > 0.0 for seconds in kept)
    assert sum(kept) <= cost + 0.01


def test_one_that_diverges_leaves_the_others_to_their_end_and_they_are_not_trained_again(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    shutil.rmtree(root / ".imbnas/kept", ignore_errors=True)
    step, trainers = Trainer.step, []

    def diverging(self: Trainer, *given: Any) -> torch.Tensor:
        if self not in trainers:
            trainers.append(self)
        return step(self, *given) * (float("inf") if len(trainers) == 3 and self is trainers[1] else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", diverging)
        assert tiny_chain.run(root, "retrain", runtime__together=3) == 2
    said = capsys.readouterr().err
    assert "random-1: failed, the others that have begun end first (retrain: the loss is inf in epoch " in said
    assert [one.done == one.steps for one in trainers] == [True, False, True]
    assert len(list((root / ".imbnas/kept/retrain").glob("*.json"))) == 2
    taken = []
    monkeypatch.setattr(Trainer, "step", lambda self, *a: (taken.append(self), step(self, *a))[1])
    assert tiny_chain.run(root, "retrain", runtime__together=3) == 0
    assert len(taken) == 2 * trainers[0].steps, "the one that had failed, and the one that had not begun"
    assert tiny_chain.digests(root, "retrain") == tiny_chain.digests(chain, "retrain")


def test_heads_of_a_second_stage_take_turns_and_end_in_the_bytes_of_each_alone(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = Trainer.step, []
    monkeypatch.setattr(Trainer, "step", lambda self, *a: (taken.append(self), step(self, *a))[1])
    found = []
    for together in (1, 2):
        root = tiny_chain.copy(chain, tmp_path / str(together))
        taken.clear()
        head = {"name": "crt", "epochs": 2}
        assert tiny_chain.run(root, "retrain", runtime__together=together, retrain__head=head) == 0
        heads = [one for one in taken if one.training.name == "retrain-head"]
        changes = sum(one is not other for one, other in itertools.pairwise(heads))
        found.append((tiny_chain.digests(root, "retrain"), len(heads), changes))
    alone, beside = found
    assert beside[:2] == alone[:2]
    assert alone[2] == 3, "four heads, one after the other"
    assert beside[2] > 3
