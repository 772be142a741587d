"""`make wins` on digits: shared trainings, resumption, the page, and what its rule says."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
DIGITS: dict[str, Any] = {
    "space": {"stem": {"channels": 4}, "stages": {"channels": [4], "repeats": [1], "strides": [1]}},
    "source": {"dataset": "digits", "root": "datasets/digits", "share": 0.4},
    "target": {"dataset": "digits", "root": "datasets/digits", "image_size": None, "validation": {"per_class": 10}},
    "imbalance": {"ratio": 4.0, "n_max": 24},
    "adapt": {"head": {"epochs": 1}},
    "search": {"population": 4, "generations": 2, "parents": 2, "candidates": 4},
    "retrain": {"epochs": 1, "batch_size": 32},
}


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")


@pytest.mark.pages
def test_chains_are_resumed_and_no_cell_is_trained_twice_with_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import study_jobs
    import wins

    (tmp_path / "work/datasets/digits").mkdir(parents=True)
    monkeypatch.setattr(wins, "data_changes", lambda data: DIGITS)
    calls, steps = itertools.count(), []
    run_step = study_jobs.run_step

    def counted(step: str, *a: Any, **k: Any) -> int:
        if next(calls) == 6:
            raise KeyboardInterrupt
        steps.append(step)
        return run_step(step, *a, **k)

    monkeypatch.setattr(study_jobs, "run_step", counted)
    page = tmp_path / "page.md"
    arguments = ["x", "--work", str(tmp_path / "work"), "--seeds", "2", "--limits", "0.9x", "--random", "1"]
    arguments += ["--finalists", "2", "--supernet", "1", "--output", str(page)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--plan"])
    assert wins.main() == 0
    assert "supernet: 2 jobs left" in capsys.readouterr().out
    assert steps == []
    monkeypatch.setattr(sys, "argv", arguments)
    assert wins.main() == 143
    assert wins.main() == 0
    assert (steps.count("source"), steps.count("supernet"), steps.count("adapt")) == (1, 2, 2)
    chains, free = 2, 2 * 3
    assert chains <= steps.count("retrain") <= chains + free + 2 * 2
    text = page.read_text()
    for name in ("chosen", "random, equal cost", "macs", "params", "synflow", "jacobian", "best known"):
        assert f"\n| {name} | " in text, name
    steps.clear()
    assert wins.main() == 0
    assert (steps, page.read_text()) == ([], text)


class Told:
    """What chains have trained, invented: right answers to 400 rows of two classes."""

    def __init__(self, chosen: float, best: float, seeds: int = 6) -> None:
        from trained_networks import Trained

        self.setting = SimpleNamespace(seeds=seeds, limits=("0.4x",))
        labels, rng = np.repeat([0, 1], 200), np.random.default_rng(0)

        def network(cell: str, score: float) -> Any:
            return Trained(cell, (rng.random(400) < score).astype(float), labels)

        self._chosen = [network("a", chosen) for _ in range(seeds)]
        self._best = [network("b", best) for _ in range(seeds)]
        self._random = [[network("c", 0.5), network("d", 0.5)] for _ in range(seeds)]

    def chosen(self, limit: str, seed: int) -> Any:
        return self._chosen[seed]

    def best(self, limit: str, seed: int) -> Any:
        return self._best[seed]

    def references(self, limit: str, seed: int) -> Any:
        return self._random[seed]

    def rival(self, name: str, limit: str, seed: int) -> Any:
        return self._random[seed][0] if name == "macs" else self._random[seed][1]


@pytest.mark.parametrize(
    ("chosen", "said"), [(0.9, "The search earns its keep."), (0.5, "The search does not earn its keep by the rule.")]
)
def test_the_rule_wants_every_interval_above_zero(chosen: float, said: str) -> None:
    from wins_page import Compared, verdict

    one = Compared(Told(chosen, 0.95), ["0.4x"])  # type: ignore[arg-type]
    told = verdict({"limit 0.4x": one})
    assert told.startswith(said)
    assert ("not shown for" in told) == (chosen == 0.5)
    assert float(one.shares(one.best).value) == 1.0
    assert float(one.shares([[refs[0]] for refs in one.others["random, equal cost"]]).value) < 0.9
    assert one.table().count("\n| ") == 7


def test_a_gain_has_the_noise_of_its_test_rows() -> None:
    """Seeds that all agree still leave the rows: the variance of a difference of shares, class by class."""
    from trained_networks import Trained
    from wins_page import gain

    labels = np.array([0] * 4 + [1] * 2)
    first = Trained("a", np.array([1.0, 1, 0, 0, 1, 1]), labels)
    second = Trained("b", np.array([0.0, 0, 0, 0, 1, 1]), labels)
    found = gain([[first]] * 3, [[second]] * 3)
    assert (first.score, second.score) == (0.75, 0.5)
    assert float(found.value) == pytest.approx(0.25)
    assert float(found.error) ** 2 == pytest.approx((0.25 / 4 + 0.0) / 4)
