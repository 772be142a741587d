"""The chain's steps on a GPU: the same bytes again, and after an interruption."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_chain

from imbnas.training.state import ResumeState

pytestmark = pytest.mark.cuda
TRAINED = ("supernet", "adapt", "search", "retrain")


@pytest.fixture(scope="module")
def trained(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose steps from `supernet` on have run on a GPU."""
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("cuda") / "chain")
    assert tiny_chain.run(root, *TRAINED, "evaluate", runtime__device="cuda") == 0
    return root


def test_the_chain_gives_the_same_bytes_again(chain: Path, trained: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, *TRAINED, "evaluate", runtime__device="cuda") == 0
    assert tiny_chain.digests(root) == tiny_chain.digests(trained)


@pytest.mark.parametrize("step", ["supernet", "adapt", "retrain"])
def test_a_stopped_training_ends_in_the_same_bytes(
    step: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(trained, tmp_path)
    original, ticks = ResumeState.tick, 0

    def tick(self: ResumeState, state: Any) -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "tick", tick)
        assert tiny_chain.run(root, step, runtime__device="cuda") == 143
    assert tiny_chain.run(root, step, runtime__device="cuda") == 0
    assert tiny_chain.digests(root, step) == tiny_chain.digests(trained, step)


@pytest.mark.parametrize("strategy", ["finetune", "scratch", "none"])
def test_each_adaptation_gives_the_same_bytes_again(strategy: str, trained: Path, tmp_path: Path) -> None:
    found = []
    for turn in range(2):
        root = tiny_chain.copy(trained, tmp_path / str(turn))
        assert tiny_chain.run(root, "adapt", adapt__strategy=strategy, runtime__device="cuda") == 0
        found.append(tiny_chain.digests(root, "adapt"))
    assert found[0] == found[1]


def test_a_gpu_agrees_with_a_cpu_on_what_subnets_are_worth(trained: Path, tmp_path: Path) -> None:
    """Scores of one adapted supernet may differ by an image or two whose logits all but tie, and by no more."""
    import pandas as pd

    root = tiny_chain.copy(trained, tmp_path)
    assert tiny_chain.run(root, "search", runtime__device="cpu") == 0
    tables = [pd.read_parquet(place / "results/search.parquet") for place in (root, trained)]
    assert tables[0]["architecture"].tolist() == tables[1]["architecture"].tolist()
    assert (tables[0]["score"] - tables[1]["score"]).abs().max() < 0.03
