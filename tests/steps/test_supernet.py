"""Step `supernet`: seeded weights, path sampling, and the same bytes after any interruption."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_chain
import torch

from imbnas import waiting
from imbnas.data import images, loading
from imbnas.params.space_options import SpaceParams
from imbnas.seeds import derive
from imbnas.spaces.registry import make_space
from imbnas.training import loop
from imbnas.training.checkpoint import load_weights
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime

OUTPUT, LOSSES = "models/supernet.safetensors", "results/plots/supernet.csv"


def test_epochs_0_writes_the_seeded_initial_weights(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "supernet", supernet__epochs=0) == 0
    found, meta = load_weights(root / OUTPUT, "supernet")
    space = make_space(SpaceParams.model_validate_json(json.dumps(meta["space"])))
    torch.manual_seed(derive(0, "supernet", "weights"))
    expected = space.build_supernet(10, 1).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_training_changes_every_weight_and_repeats_bit_for_bit(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    before = tiny_chain.digests(root, "supernet")
    (root / OUTPUT).unlink()
    assert set(before) == {OUTPUT, LOSSES}
    assert tiny_chain.run(root, "supernet") == 0
    assert tiny_chain.digests(root, "supernet") == before
    trained, meta = load_weights(root / OUTPUT)
    assert 0.0 <= meta["probe_balanced_accuracy"] <= 1.0
    assert tiny_chain.run(root, "supernet", supernet__epochs=0) == 0
    initial, _ = load_weights(root / OUTPUT)
    # A BatchNorm scale before a depthwise convolution and another BatchNorm has no gradient: only weights are compared.
    weights = [name for name, value in trained.items() if value.ndim > 1]
    assert [name for name in weights if torch.equal(trained[name], initial[name])] == []


def test_the_losses_of_the_epochs_are_those_that_the_log_tells(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "supernet", supernet__epochs=3) == 0
    table = pd.read_csv(root / LOSSES)
    told = re.findall(r"supernet: epoch (\d+) of 3, loss ([0-9.]+)", (root / "logs/supernet.log").read_text())
    assert list(table.epoch) == [int(epoch) for epoch, _ in told[-3:]] == [1, 2, 3]
    assert list(table.loss) == pytest.approx([float(loss) for _, loss in told[-3:]], abs=6e-5)
    assert tiny_chain.run(root, "supernet", supernet__epochs=0) == 0
    assert (root / LOSSES).read_text() == "epoch,loss\n"


@pytest.mark.parametrize("sampling", ["uniform", "sandwich"])
def test_each_sampling_trains_otherwise(chain: Path, tmp_path: Path, sampling: str) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    fair = tiny_chain.digests(root, "supernet")
    assert tiny_chain.run(root, "supernet", supernet__sampling=sampling, supernet__epochs=1) == 0
    assert tiny_chain.digests(root, "supernet") != fair


def test_passes_together_resume_to_the_same_bytes_and_round_otherwise_alone(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"supernet__passes": "together", "supernet__epochs": 2}
    separate, whole, root = (tiny_chain.copy(chain, tmp_path / name) for name in ("separate", "whole", "stopped"))
    assert tiny_chain.run(separate, "supernet", supernet__epochs=2) == 0
    keys, places = set(), set()

    class Recorder:
        """Stands for the recorder of steps: a recording is found by its key and reads its routes where they lay."""

        def __call__(self, key: Any, step: Any, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = step(inputs, target)
            keys.add(key)
            learn = step.args[-1]  # of what makes the batch first
            places.add(tuple(part.data_ptr() for part in learn.func.__self__.routes))
            return loss

    with monkeypatch.context() as patched:
        patched.setattr(loop, "GraphedStep", Recorder)
        patched.setattr(Runtime, "records", True)
        assert tiny_chain.run(whole, "supernet", **options) == 0
    rows = len(np.load(root / "data/source/train/images.npy"))
    assert {(paths, size) for _, paths, size in keys} == {(4, 64), (4, rows % 64)}, "whatever the paths are"
    assert len(places) == 1
    found, expected = (load_weights(project / OUTPUT) for project in (whole, separate))
    assert found[1]["recipe"]["passes"] == "together"
    assert "passes" not in expected[1]["recipe"]
    losses = [pd.read_csv(project / LOSSES).loss for project in (whole, separate)]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    steps = 0
    real = Trainer.step

    def counted(*arguments: object, **named: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", counted)
    assert tiny_chain.run(root, "supernet", **options) == 143
    assert tiny_chain.run(root, "supernet", **options) == 0
    assert tiny_chain.digests(root, "supernet") == tiny_chain.digests(whole, "supernet")


@pytest.mark.parametrize("stop_at", [1, 9, 40])
def test_sigterm_at_any_step_changes_nothing(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    expected = tiny_chain.digests(root, "supernet")
    (root / OUTPUT).unlink()
    steps = 0
    real = Trainer.step

    def counted(*arguments: object, **named: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", counted)
    assert tiny_chain.run(root, "supernet") == 143
    assert not (root / OUTPUT).exists()
    assert len(list((root / ".imbnas/resume/supernet").glob("*.pt"))) == 1
    assert tiny_chain.run(root, "supernet") == 0
    total = 8 * -(-len(np.load(root / "data/source/train/images.npy")) // 64)
    assert steps == total, "a resumed training repeats no step"
    assert tiny_chain.digests(root, "supernet") == expected
    assert list((root / ".imbnas/resume/supernet").iterdir()) == []


def test_a_diverging_loss_is_told_in_one_line(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    code = tiny_chain.run(root, "supernet", supernet__optimizer={"lr": 1e30, "clip": 0.0})
    assert code == 2
    assert "supernet: the loss is" in capsys.readouterr().err


def test_a_stop_while_waiting_for_images_loses_no_step(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"supernet__augment": {"policy": "randaugment"}, "supernet__epochs": 2}
    straight, root = tiny_chain.copy(chain, tmp_path / "straight"), tiny_chain.copy(chain, tmp_path / "stopped")
    assert tiny_chain.run(straight, "supernet", **options) == 0
    waits, bounded = 0, loading.bounded

    @contextmanager
    def hanging(seconds: float) -> Iterator[None]:
        nonlocal waits
        waits += 1
        with bounded(seconds):
            if waits == 6:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1e6)
            yield

    with monkeypatch.context() as patch:
        patch.setattr(loading, "bounded", hanging)
        # For arrays a training on the CPU has no workers of its own.
        patch.setattr(images, "made", lambda source, tasks, early, _, pin: loading.made(source, tasks, early, 1, pin))
        patch.setattr(waiting, "HURRY_SECONDS", 0.2)
        assert tiny_chain.run(root, "supernet", **options) == 143
    assert tiny_chain.run(root, "supernet", **options) == 0
    assert "goes on from optimiser step 5" in (root / "logs/supernet.log").read_text()
    assert tiny_chain.digests(root, "supernet") == tiny_chain.digests(straight, "supernet")
