"""What a killed or earlier run has left is damaged: a step begins anew, says so, and ends in the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_chain
import torch
from damage import damaged

from imbnas.sealed import open_sealed, write_sealed
from imbnas.training.loop import Trainer

DAMAGES = ["cut", "flipped", "later step", "no step", "negative step", "one epoch more", "NaN epoch", "another network"]


def altered(content: bytes, path: Path, how: str) -> None:
    """Write a damaged training state; the last ones carry a right digest."""
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
        return
    if how == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
        return
    with open_sealed(path) as stream:
        state: dict[str, Any] = torch.load(stream, weights_only=True)
    changes: dict[str, Callable[[], object]] = {
        "later step": lambda: state.update(step=10**9),
        "no step": lambda: state.pop("step"),
        "negative step": lambda: state.update(step=-5),
        "one epoch more": lambda: state["history"].append(1.0),
        "NaN epoch": lambda: state.update(history="nonsense"),
        "another network": lambda: state["model"].popitem(),
    }
    changes[how]()
    write_sealed(path, lambda stream: torch.save(state, stream))


SHORT = {"supernet__epochs": 2}


@pytest.fixture(scope="module")
def whole(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose supernet was trained for two epochs without a stop."""
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("whole"))
    assert tiny_chain.run(root, "supernet", **SHORT) == 0
    return root


@pytest.fixture(scope="module")
def stopped(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose supernet was stopped in its seventh step."""
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("stopped"))
    steps, real = 0, Trainer.step

    def counted(*arguments: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", counted)
        assert tiny_chain.run(root, "supernet", **SHORT) == 143
    return root


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_state_is_never_used(whole: Path, stopped: Path, tmp_path: Path, how: str) -> None:
    root = tiny_chain.copy(stopped, tmp_path)
    (path,) = (root / ".imbnas/resume/supernet").glob("*.pt")
    altered(path.read_bytes(), path, how)
    (root / "logs/supernet.log").unlink()
    assert tiny_chain.run(root, "supernet", **SHORT) == 0
    told = (root / "logs/supernet.log").read_text()
    assert f"{path}: not a whole training state (" in told
    assert "begun anew" in told
    assert "goes on from" not in told
    assert tiny_chain.digests(root, "supernet") == tiny_chain.digests(whole, "supernet")


def test_the_whole_state_is_used(whole: Path, stopped: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(stopped, tmp_path)
    assert tiny_chain.run(root, "supernet", **SHORT) == 0
    assert "goes on from optimiser step 7" in (root / "logs/supernet.log").read_text()
    assert tiny_chain.digests(root, "supernet") == tiny_chain.digests(whole, "supernet")


def test_a_damaged_cost_of_earlier_attempts_is_forgotten(stopped: Path, tmp_path: Path) -> None:
    (file,) = (stopped / ".imbnas/resume/supernet").glob("*.cost.json")
    for number, content in enumerate(damaged(file.read_bytes(), flips=3, cuts=3)):
        root = tiny_chain.copy(stopped, tmp_path / str(number))
        (root / file.relative_to(stopped)).write_bytes(content)
        assert tiny_chain.run(root, "supernet", **SHORT) == 0
        log = (root / "logs/supernet.log").read_text()
        assert "what earlier attempts have cost is lost" in log or b"\n" in content


def test_a_damaged_kept_network_is_trained_again(chain: Path, tmp_path: Path) -> None:
    options = {"retrain__head": {"name": "ncm", "epochs": 1}, "retrain__references": False}
    first = tiny_chain.copy(chain, tmp_path / "first")
    shutil.rmtree(first / ".imbnas/kept/retrain")
    assert tiny_chain.run(first, "retrain", **options) == 0
    kept = sorted((first / ".imbnas/kept/retrain").iterdir())
    assert len(kept) == 2
    for number, file in enumerate(kept):
        content = bytearray(file.read_bytes())
        # Within the tensors, and within the seconds.
        place = content.index(b'"seconds": ') + 11 if file.suffix == ".json" else len(content) - 5
        content[place] ^= 1
        root = tiny_chain.copy(first, tmp_path / str(number))
        (root / file.relative_to(first)).write_bytes(content)
        (root / "logs/retrain.log").unlink()
        assert tiny_chain.run(root, "retrain", **options) == 0
        assert "trained by an earlier run" not in (root / "logs/retrain.log").read_text()
        assert tiny_chain.digests(root, "retrain") == tiny_chain.digests(first, "retrain")


def test_damaged_scores_are_found_anew(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tiny_chain.copy(chain, tmp_path / "run")
    from imbnas.search.kept_scores import KeptScores

    shutil.rmtree(root / ".imbnas/kept/search")
    real, scored = KeptScores._append, 0

    def counted(*arguments: Any) -> Any:
        nonlocal scored
        scored += 1
        if scored == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(KeptScores, "_append", counted)
        assert tiny_chain.run(root, "search") == 143
    (file,) = (root / ".imbnas/kept/search").glob("*.jsonl")
    content = file.read_bytes()
    assert content.count(b"\n") == 5
    for number, wrong in enumerate(damaged(content, flips=6, cuts=3)):
        again = tiny_chain.copy(root, tmp_path / str(number))
        (again / file.relative_to(root)).write_bytes(wrong)
        assert tiny_chain.run(again, "search") == 0, wrong
        assert tiny_chain.digests(again, "search") == tiny_chain.digests(chain, "search")
