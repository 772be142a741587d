"""Supernet Shifting: when the supernet moves, that a killed search ends in the same bytes, and what is handed on."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_chain
import torch

from imbnas.steps import search_shifting
from imbnas.steps.moving_supernet import MovingSupernet
from imbnas.training.checkpoint import load_weights

EVOLUTION: dict[str, Any] = {
    "search__method": "evolution",
    "search__population": 3,
    "search__generations": 3,
    "search__parents": 2,
}
SHIFTED: dict[str, Any] = {
    **EVOLUTION,
    "search__shifting": {"updates": 1, "batch_size": 32, "optimizer": {"lr": 0.02}},
    "retrain__init": "handed",
}


def table(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "results/search.parquet")


@pytest.fixture(scope="module")
def shifted(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that was searched with a supernet that moves."""
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("shifted"))
    assert tiny_chain.run(root, "search", **SHIFTED) == 0
    return root


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, ...]]]:
    """Collect the candidates on which the supernet moves."""
    found: list[list[tuple[int, ...]]] = []
    real = MovingSupernet._move

    def noted(self: MovingSupernet, candidates: list[tuple[int, ...]]) -> None:
        found.append(list(candidates))
        real(self, candidates)

    monkeypatch.setattr(MovingSupernet, "_move", noted)
    return found


def test_it_moves_once_after_each_generation_and_scores_are_the_last_weights(
    shifted: Path, tmp_path: Path, moves: list[list[tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(shifted, tmp_path)
    shutil.rmtree(root / ".imbnas/kept/search")
    scored: list[tuple[int, list[str]]] = []
    real = search_shifting.ShiftingScores.__call__

    def noted(self: Any, architectures: Any) -> Any:
        scored.append((len(self._generations), ["-".join(map(str, each)) for each in architectures]))
        return real(self, architectures)

    monkeypatch.setattr(search_shifting.ShiftingScores, "__call__", noted)
    assert tiny_chain.run(root, "search", **SHIFTED) == 0
    found = table(root)
    generations = [list(part.architecture) for _, part in found.groupby("generation")]
    assert [["-".join(map(str, each)) for each in one] for one in moves] == [sorted(one) for one in generations]
    assert scored == [*enumerate(generations), (3, list(found.architecture))]
    facts = json.loads((root / "results/search.json").read_text())["shifting"]
    assert (facts["generations"], facts["updates"]) == (3, 3)
    assert tiny_chain.digests(root, "search") == tiny_chain.digests(shifted, "search")


def test_the_weights_that_moved_are_handed_on_with_the_adapted_statistics(shifted: Path, chain: Path) -> None:
    handed, adapted = (
        load_weights(root / f"models/{name}.safetensors")[0] for root, name in ((shifted, "handed"), (chain, "adapted"))
    )
    assert handed.keys() == adapted.keys()
    assert not torch.equal(handed["head.weight"], adapted["head.weight"])
    statistics = [name for name in adapted if "running_" in name or "num_batches" in name]
    assert statistics
    assert all(torch.equal(handed[name], adapted[name]) for name in statistics)


@pytest.mark.parametrize("lost", ["nothing", "scores"])
def test_a_killed_search_ends_in_the_same_bytes(
    shifted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: list[list[tuple[int, ...]]], lost: str
) -> None:
    root = tiny_chain.copy(shifted, tmp_path)
    expected = tiny_chain.digests(root, "search")
    shutil.rmtree(root / ".imbnas/kept/search")
    real = MovingSupernet.move_after

    def killed(self: MovingSupernet, generations: Any) -> None:
        real(self, generations)
        if len(generations) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(MovingSupernet, "move_after", killed)
    assert tiny_chain.run(root, "search", **SHIFTED) == 143
    monkeypatch.setattr(MovingSupernet, "move_after", real)
    assert len(moves) == 2
    if lost == "scores":
        shutil.rmtree(root / ".imbnas/kept/search")
    (state,) = (root / ".imbnas/resume/search").glob("*.shifting.pt")
    assert tiny_chain.run(root, "search", **SHIFTED) == 0
    # A state of later weights than those that are asked for first is of no use.
    assert len(moves) == 2 + (1 if lost == "nothing" else 3)
    assert not state.exists()
    assert tiny_chain.digests(root, "search") == expected


def test_without_updates_the_supernet_stays(
    chain: Path, shifted: Path, tmp_path: Path, moves: list[list[tuple[int, ...]]]
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "search", **EVOLUTION) == 0
    facts = json.loads((root / "results/search.json").read_text())
    assert "shifting" not in facts
    assert moves == []
    first, second = table(root), table(shifted)
    # Generation 0 is drawn alike and scored by the same weights at first, and anew by others at the end.
    assert list(first.architecture[:3]) == list(second.architecture[:3])
    assert list(first.score[:3]) != list(second.score[:3])
