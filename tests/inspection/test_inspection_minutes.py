"""Expected minutes: what they follow from, what is said where they are not known, and fitting a chain to a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chain import changed

from imbnas.cli import main
from imbnas.errors import UserError
from imbnas.inspection import budget, minutes
from imbnas.inspection import trial as trials
from imbnas.inspection.trial import Pace, trial
from imbnas.inspection.unestimated import in_words, unestimated
from imbnas.params import presets
from imbnas.params.budget_time import parse_budget
from imbnas.params.config import load, parse
from imbnas.run import machine
from imbnas.sealed import write_record
from imbnas.training.runtime import Runtime

PACE = Pace(training=1e-3, evaluation=2e-4, decoding=0.0, device="cpu", images=64, choices=4)
ROWS = {"source": 100, "training": 200, "validation": 40, "test": 60}


def expected(**dotted: Any) -> dict[str, float]:
    found = minutes.seconds(parse(changed(**dotted), "params.yaml"), ROWS, PACE)
    return {step: round(taken - minutes.START, 6) for step, taken in found.items()}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["imbnas", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_seconds_are_rows_times_epochs_times_paths_times_pace() -> None:
    found = expected(supernet__epochs=8, supernet__probe_paths=1)
    # Fair steps take four paths of shufflenet.
    assert found["supernet"] == pytest.approx(8 * 100 * 4 * 1e-3 + 512 * 2e-4)
    assert found["adapt"] == pytest.approx(4 * 200 * 4 * 2e-4)
    assert found["search"] == pytest.approx(6 * (64 + 40) * 2e-4)
    # The chosen network, two random ones and the largest.
    assert found["retrain"] == pytest.approx(4 * 3 * 200 * 1e-3)
    assert found["evaluate"] == pytest.approx(4 * 60 * 2e-4)
    uniform = expected(supernet__epochs=8, supernet__sampling="uniform", supernet__probe_paths=1)
    assert uniform["supernet"] == pytest.approx(8 * 100 * 1e-3 + 512 * 2e-4)
    # The tiny space has three blocks of four choices: all of it is scored, whatever `search.candidates` says.
    listed = expected(search__method="exhaustive")
    assert listed["search"] == pytest.approx(4**3 * (64 + 40) * 2e-4)
    more = {"retrain__rows": "all", "imbalance__profile": "natural"}
    assert expected(**more)["retrain"] == pytest.approx(4 * 3 * 340 * 1e-3)


def test_a_reused_supernet_takes_no_time() -> None:
    found = expected(supernet__reuse="supernets/a.safetensors", retrain__rows="all", imbalance__profile="natural")
    assert found["supernet"] == 0.0
    assert found["retrain"] == pytest.approx(4 * 3 * 240 * 1e-3)


def test_the_rows_of_another_source_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minutes, "trial", lambda *arguments: PACE)
    assert minutes.expect_unread(presets.params("cifar10-lt"), tmp_path).rows["source"] == 50_000
    half = minutes.expect_unread(presets.params("cifar10-lt-self"), tmp_path).rows
    assert half["source"] == 25_000
    # The tail is cut from the other half.
    assert half["training"] + half["validation"] < 25_000
    assert half["test"] == 10_000


def test_a_trial_needs_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = trial(parse(changed(), "params.yaml"), 10)
    assert 0.0 < pace.evaluation < pace.training < 1.0
    assert (pace.device, pace.decoding, pace.choices) == ("cpu", 0.0, 4)
    monkeypatch.setattr(machine, "available", lambda: 2**12)
    with pytest.raises(UserError, match="the memory of this machine"):
        trial(parse(changed(), "params.yaml"), 10)


@pytest.mark.parametrize(("preset", "side"), [("darts-digits", None), ("ofa-224", 32)])
def test_final_networks_and_elastic_ones_are_timed_too(
    preset: str, side: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "WORK", {"cpu": 1, "cuda": 1})
    monkeypatch.setattr(trials, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(trials, "PATHS", 1)
    tree = presets.params(preset).tree()
    tree["target"]["image_size"], tree["runtime"]["threads"] = side, 1
    pace = trial(parse(tree, "params.yaml"), 10)
    assert 0.0 < pace.evaluation < pace.training
    assert pace.images == 2


@pytest.mark.parametrize(("programs", "threads"), [(0.2, 2), (3.0, 1)])
def test_on_a_busy_machine_no_thread_waits_for_another_and_that_is_said(
    programs: float, threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used: list[int] = []

    def timed(call: object, most: int, runtime: object) -> float:
        used.append(torch.get_num_threads())
        return 0.01

    monkeypatch.setattr(trials, "_seconds", timed)
    monkeypatch.setattr(os, "getloadavg", lambda: (programs * (os.cpu_count() or 1), 0.0, 0.0))
    params = parse(changed(runtime__threads=2), "params.yaml")
    try:
        pace = trial(params, 10)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert used == [threads, threads]
    said = minutes.expectation(params, ROWS, pace).line(tmp_path)
    assert ("timed on one thread, as the machine is busy (3.0 programs per processor)" in said) == (threads == 1)


@pytest.mark.parametrize(
    ("layer", "image", "calls"),
    # Fast: batches grow to the largest. Slower: they grow until they take long enough. Very slow: once is enough.
    [(0.0, 0.0001, [8, 8, 32, 100, *[100] * 7]), (0.0, 0.01, [8, 8, 32]), (3.0, 0.01, [8])],
)
def test_a_batch_grows_only_while_it_takes_no_time(
    layer: float, image: float, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, clock = [], [0.0]

    def call(number: int) -> None:
        asked.append(number)
        clock[0] += layer + number * image

    monkeypatch.setattr(trials.time, "perf_counter", lambda: clock[0])
    taken = trials._seconds(call, 100, Runtime(parse(changed(), "params.yaml").runtime))
    assert asked == calls
    assert taken == pytest.approx((layer + calls[-1] * image) / calls[-1])


DARTS = "search (gradient descent on a continuous architecture)"


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("own-64", ""),
        ("ofa-224", ""),
        ("darts-digits", f"not estimated: {DARTS}"),
        ("zo-darts-digits", f"not estimated: {DARTS}"),
        (
            "single-stage-digits",
            f"not estimated: {DARTS}, retrain and evaluate (the final network is a mixture of operations)",
        ),
        ("implant-digits", "not estimated: supernet and adapt and retrain (a part of each network is held)"),
    ],
)
def test_what_is_not_estimated_is_said_for_each_step(preset: str, words: str, tmp_path: Path) -> None:
    found = minutes.expectation(presets.params(preset), ROWS, PACE)
    said = found.line(tmp_path)
    assert in_words(found.unknown) == words
    assert said.endswith(words)
    assert (" without search" in said) == words.startswith(f"not estimated: {DARTS}")
    assert found.seconds.keys() | found.unknown.keys() == set(minutes.STEPS)
    # What is estimated has its own time beside what is not.
    assert ("retrain" in found.unknown) or found.seconds["retrain"] > minutes.START


def test_other_methods_are_estimated_or_not_by_what_they_do() -> None:
    assert unestimated(parse(changed(search__method="synflow"), "params.yaml")).keys() == {"search"}
    assert expected(search__method="macs")["search"] == 0.0
    cells = parse(
        {**changed(search__method="exhaustive"), "space": {"name": "nasbench201", "last_channels": None}}, "params.yaml"
    )
    # Of 15,625 tuples some 6,000 are connected and in their canonical form.
    found = minutes.seconds(cells, ROWS, PACE)["search"] - minutes.START
    assert found == pytest.approx(6000 * (64 + 40) * 2e-4, rel=0.15)


def test_a_budget_of_a_chain_that_is_not_estimated_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(minutes, "trial", lambda *arguments: PACE)
    assert run(monkeypatch, "init", "--preset", "darts-digits", "--root", str(tmp_path), "--budget", "1h") == 2
    assert f"--budget 1h: not estimated: {DARTS}, expected a chain that is" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800.0), ("90s", 90.0), ("1.5h", 5400.0)])
def test_a_time_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["30", "0m", "-1m", "m", "1d", "1e3s", ""])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--budget .*: expected a time such as 30m"):
        parse_budget(text)


def test_check_tells_the_time_or_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(minutes, "trial", lambda *arguments: PACE)
    assert run(monkeypatch, "init", "--preset", "own-64") == 0
    assert run(monkeypatch, "check") == 0
    assert "expected minutes: not known: datasets/own: no class directories found" in capsys.readouterr().out
    assert run(monkeypatch, "init") == 0
    assert run(monkeypatch, "check") == 0
    said = capsys.readouterr().out
    assert "expected on this machine (cpu): " in said
    assert "the last run" not in said
    steps = {step: {"seconds": 10.0} for step in minutes.STEPS}
    write_record(tmp_path / "results/cost-details.json", {"steps": steps, "total_seconds": 80.0})
    assert run(monkeypatch, "check") == 0
    total = minutes.expect_unread(load(tmp_path / "params.yaml"), tmp_path).total
    assert f"the last run took 80 s, {80 / total:.2f} of that" in capsys.readouterr().out


def test_a_budget_scales_epochs_and_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(minutes, "trial", lambda *arguments: PACE)
    assert run(monkeypatch, "init", "--root", str(tmp_path), "--budget", "2m") == 0
    now, before = load(tmp_path / "params.yaml"), presets.params("digits")
    assert 5 <= now.supernet.epochs < before.supernet.epochs
    assert 10 <= now.retrain.epochs < before.retrain.epochs
    assert 3 <= now.search.generations < before.search.generations
    assert minutes.expect_unread(now, tmp_path).total == pytest.approx(120, rel=0.15)
    assert "# as for adapt" in (tmp_path / "params.yaml").read_text()
    assert run(monkeypatch, "init", "--root", str(tmp_path), "--budget", "1h", "--force") == 0
    longer = load(tmp_path / "params.yaml")
    assert longer.retrain.epochs == round(budget.MOST * before.retrain.epochs)


def test_too_short_a_time_is_refused_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(minutes, "trial", lambda *arguments: PACE)
    assert run(monkeypatch, "init", "--root", str(tmp_path), "--budget", "20s") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: --budget 20s: found less than the ")
    assert message.count("\n") == 1
    assert (tmp_path / "params.yaml").read_text() == presets.text("digits")
    assert run(monkeypatch, "init", "--preset", "own-64", "--root", str(tmp_path), "--budget", "1h") == 2
    assert "no class directories found" in capsys.readouterr().err
