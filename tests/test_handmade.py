"""`make handmade` and `make spread`: widths, starts, what their rules say, and rehearsals on digits."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    monkeypatch.syspath_prepend(ROOT / "tests")


def test_hand_made_networks_come_within_five_percent_of_the_macs(tmp_path: Path) -> None:
    from handmade_arms import SPACES, Arms, Setting, fitted

    from imbnas.errors import UserError
    from imbnas.spaces.registry import make_space

    arms = Arms(tmp_path, Setting())
    for space in SPACES.values():
        made = make_space(arms.params({"space": fitted(space, 1_300_000, _with(arms), (16, 16, 3))}).space)
        found = made.cost_table((16, 16, 3), 10).cost(tuple([0] * len(made.blocks))).macs
        assert abs(found / 1_300_000 - 1) <= 0.05
        assert set(made.choices) == {1}, "nothing is left to search for"
    with pytest.raises(UserError, match="expected at most 5%"):
        fitted(SPACES["ResNet"], 1000, _with(arms), (16, 16, 3))


def _with(arms: Any) -> Any:
    return lambda space: arms.params({"space": space})


def test_a_hand_made_network_passes_over_the_source_as_often_as_five_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handmade_arms import HANDED, OURS, RESNET, SCRATCH, Arms, Setting, resnet_space

    arms = Arms(tmp_path, Setting(supernet=3))
    monkeypatch.setattr(Arms, "space", lambda self, name, seed: resnet_space((8, 16, 32)))
    ours, pretrained = arms.jobs(OURS, HANDED, 1).cells[0], arms.jobs(RESNET, HANDED, 1).cells[0]
    assert (ours.supernet.epochs, ours.supernet.sampling) == (3, "fair")
    assert (pretrained.supernet.epochs, pretrained.supernet.sampling) == (15, "uniform")
    assert pretrained.retrain.finetune.epochs == ours.retrain.finetune.epochs == ours.retrain.epochs
    assert arms.jobs(RESNET, SCRATCH, 1).cells[0].supernet.epochs == 0
    first, second = (arms.jobs(OURS, start, 1).plan.cells[0] for start in (SCRATCH, HANDED))
    assert {step for step in first if first[step] == second[step]} >= {"supernet", "adapt"}


def test_the_plan_counts_jobs_that_arms_share_once(tmp_path: Path) -> None:
    from handmade import plan
    from handmade_arms import Arms, Setting

    told = plan(Arms(tmp_path, Setting(seeds=2))).splitlines()
    # Of each seed one supernet of ours, and of each hand-made network an untrained and a pretrained one.
    assert "supernet: 10 jobs left" in told
    assert "retrain: 12 jobs left" in told
    assert "source: 1 jobs left" in told
    assert float(told[-1].split()[3]) > 0.5


def test_the_rule_wants_all_four_differences() -> None:
    from handmade import verdict
    from handmade_arms import HANDMADE, STARTS

    from imbnas.longtail.student import mean_of_runs

    up, down = mean_of_runs([0.02, 0.021, 0.022]), mean_of_runs([-0.02, -0.021, -0.022])
    arms = [(name, start) for start in STARTS for name in HANDMADE]
    assert verdict({arm: (up, 0.01) for arm in arms}) == "By the rule a user who takes imbnas is better off."
    mixed = verdict({arm: (down, 0.01) if arm[0] == "ResNet" else (up, 0.2) for arm in arms})
    assert "not shown" in mixed
    assert "Above: none." in mixed
    assert "Below: ResNet from scratch, ResNet inherited weights." in mixed


@pytest.mark.pages
def test_all_arms_are_trained_once_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import handmade
    import study_jobs
    from test_wins import DIGITS

    (tmp_path / "work/datasets/digits").mkdir(parents=True)
    monkeypatch.setattr(handmade, "data_changes", lambda data: DIGITS)
    steps: list[str] = []
    run_step = study_jobs.run_step

    def counted(step: str, *a: Any, **k: Any) -> int:
        steps.append(step)
        return run_step(step, *a, **k)

    monkeypatch.setattr(study_jobs, "run_step", counted)
    monkeypatch.setattr("handmade_arms.WINDOW", 100.0)
    page = tmp_path / "page.md"
    arguments = ["x", "--work", str(tmp_path / "work"), "--seeds", "2", "--supernet", "1", "--output", str(page)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert handmade.main() == 0
    assert (steps.count("retrain"), steps.count("supernet")) == (2 * 2 * 3, 2 * (1 + 2 * 2))
    text = page.read_text()
    assert text.count("\n| ShuffleNetV2 | ") == text.count("\n| imbnas | ") == 2
    steps.clear()
    assert handmade.main() == 0
    assert (steps, page.read_text()) == ([], text)


def options(tmp_path: Path, **changes: Any) -> argparse.Namespace:
    given = {"work": tmp_path, "data": None, "cells": 4, "trainings": 2, "epochs": None, "largest": None}
    return argparse.Namespace(**{**given, **changes})


def test_a_spread_is_told_by_its_variance_components(tmp_path: Path) -> None:
    import spread

    rng = np.random.default_rng(0)
    true = np.linspace(0.4, 0.6, 20)
    for noise, more in ((0.005, True), (0.2, False)):
        found = spread.figures(true + noise * rng.normal(size=(3, 20)))
        assert (found[spread.RATIO].low > 1.0) == more
    given = spread.described("cells-32", options(tmp_path, epochs=3, largest=100))
    assert (given["retrain"]["epochs"], given["conditions"]["longtail"]["n_max"], len(given["cells"])) == (3, 100, 4)
    assert given["source"]["dataset"] == "digits"
    assert spread.made("cells-64", options(tmp_path)).spec.target.image_size == 64
    assert spread.made("cells-32", options(tmp_path, epochs=2)).name != spread.made("cells-32", options(tmp_path)).name


@pytest.mark.pages
def test_a_spread_is_measured_on_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import spread

    arguments = ["x", "--preset", "digits", "--work", str(tmp_path), "--cells", "4", "--epochs", "1", "--largest", "20"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert spread.main() == 0
    told = capsys.readouterr().out
    assert "digits: 4 random architectures, 2 trainings of each, 1 epochs" in told
    assert "ceiling: tau that" in told
    monkeypatch.setattr(sys, "argv", [*arguments[:-4], "--cells", "3"])
    assert spread.main() == 2
