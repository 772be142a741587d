"""What the controller asks of a cluster: jobs that an earlier one left, and how much memory and time a step gets."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from workflow_project import ROOT

from imbnas.errors import UserError
from imbnas.params.config import Params, load, parse
from imbnas.run.output_record import OutputRecord

sys.path.insert(0, str(ROOT / "workflow/lib"))
import cluster
import controller
import outputs
import sizes

PRESETS = ROOT / "presets"


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that lets a command of Slurm answer with a text."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()

    def put(command: str, text: str) -> None:
        (tmp_path / "bin" / f"{command}.txt").write_text(text)
        program = tmp_path / "bin" / command
        program.write_text(f'#!/bin/sh\nwhile IFS= read -r line; do echo "$line"; done < {program}.txt\n')
        program.chmod(0o755)

    return put


def test_jobs_of_this_directory_are_found_and_no_others(answer: Callable[[str, str], None], tmp_path: Path) -> None:
    assert cluster.left_behind() == []
    (tmp_path / "link").symlink_to(tmp_path)
    answer(
        "squeue",
        f"12|RUNNING|rule_supernet|{tmp_path}\n13|PENDING|rule_adapt|{tmp_path}/link\n"
        f"14|RUNNING|rule_adapt|{tmp_path}/other\n15|RUNNING|(null)|{tmp_path}\n",
    )
    assert cluster.left_behind() == ["12 (supernet, running)", "13 (adapt, pending)"]


def test_it_waits_until_none_is_left_and_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.0)
    answers = [["12 (supernet, pending)"], ["12 (supernet, running)"], ["12 (supernet, running)"], []]
    assert cluster.settle(lambda: answers.pop(0))
    told = capsys.readouterr().err.splitlines()
    assert [line.split("left: ")[-1] for line in told if "left: " in line] == [
        "12 (supernet, pending); waiting for them",
        "12 (supernet, running); waiting for them",
    ]
    assert "scancel 12;" in told[1]
    assert not cluster.settle(list)


def test_sigterm_ends_the_waiting() -> None:
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(SystemExit, match="143"):
        cluster.settle(lambda: ["12 (supernet, running)"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_slurm_that_would_not_tell_of_a_jobs_end_is_refused(answer: Callable[[str, str], None]) -> None:
    cluster.check("squeue", 200)  # no Slurm: the plugin says so itself
    answer("scontrol", "AccountingStorageType   = accounting_storage/none\nMinJobAge               = 60 sec\n")
    cluster.check("squeue", 20)
    with pytest.raises(UserError, match=r"found 21, but this Slurm .* after 60 s .*, expected at most 20$"):
        cluster.check("squeue", 21)
    with pytest.raises(UserError, match=r"slurm-status-command: found sacct, .* expected squeue$"):
        cluster.check("sacct", 20)
    answer("scontrol", "AccountingStorageType   = accounting_storage/slurmdbd\nMinJobAge               = 2 sec\n")
    cluster.check("squeue", 20)
    cluster.check("sacct", 20)


def changed(params: Params, **dotted: object) -> Params:
    tree = params.tree()
    for name, value in dotted.items():
        section, leaf = name.split("__")
        tree[section][leaf] = value
    return parse(tree, "params.yaml")


def test_memory_and_time_follow_the_parameters() -> None:
    digits = load(PRESETS / "digits.yaml")
    cifar = load(PRESETS / "cifar10-lt.yaml")
    imagenet = load(PRESETS / "imagenet-lt.yaml")
    # A digits step was measured at 0.8 GB and its job's Snakemake at 0.35 GB.
    assert 1500 <= sizes.megabytes(changed(digits, runtime__device="cpu"), "supernet") <= 2500
    # 60,000 images of 32 x 32 x 3 bytes, twice, and CUDA's own.
    assert sizes.megabytes(cifar, "supernet") - sizes.megabytes(digits, "supernet") == pytest.approx(351, abs=2)
    loaders = imagenet.runtime.workers
    fewer = changed(imagenet, runtime__workers=loaders - 2)
    assert sizes.megabytes(imagenet, "retrain") - sizes.megabytes(fewer, "retrain") == 2000
    # Policies are applied by workers where a GPU would wait for them, for array images too.
    policy = changed(cifar, retrain__augment={"policy": "randaugment"}, runtime__workers=3)
    assert [sizes.loaders(policy, step, "target") for step in ("adapt", "retrain", "evaluate")] == [0, 3, 0]
    assert sizes.megabytes(policy, "retrain") - sizes.megabytes(cifar, "retrain") == 3000
    assert sizes.loaders(changed(policy, runtime__device="cpu"), "retrain", "target") == 0
    twins = load(PRESETS / "ssf-nas-cifar10-lt.yaml")
    assert [sizes.loaders(twins, step, "target") for step in ("supernet", "search")] == [0, twins.runtime.workers]
    assert sizes.loaders(changed(imagenet, runtime__device="cpu"), "evaluate", "target") == loaders
    wide = changed(imagenet, runtime__device="cpu")
    assert sizes.megabytes(wide, "supernet") > sizes.megabytes(imagenet, "supernet") + 10_000
    third = changed(cifar, runtime__gpu_share=0.29)
    assert [sizes.gpu_percent(params, "retrain") for params in (cifar, third, wide)] == [100, 29, 0]
    assert sizes.gpu_percent(changed(cifar, runtime__processes=3), "retrain") == 300
    longer = changed(cifar, supernet__epochs=2 * cifar.supernet.epochs)
    extra = sizes.minutes(cifar, "supernet") - sizes.LEAST_MINUTES
    assert sizes.minutes(longer, "supernet") - sizes.LEAST_MINUTES == pytest.approx(2 * extra, abs=2)
    assert sizes.minutes(imagenet, "supernet") > sizes.minutes(cifar, "supernet") > sizes.minutes(digits, "supernet")
    assert sizes.minutes(changed(imagenet, supernet__epochs=10_000), "supernet") == 7 * 24 * 60
    # An epoch on one path a step is a pass over the rows, and so is a cached path in one view.
    paths = imagenet.adapt.head.epochs
    cached = changed(imagenet, adapt__feature_cache={"paths": paths, "views": 1, "limit": 8.0})
    assert sizes.minutes(cached, "adapt") == sizes.minutes(imagenet, "adapt") > sizes.LEAST_MINUTES
    more = changed(imagenet, adapt__feature_cache={"paths": 400, "views": 1, "limit": 80.0})
    assert sizes.minutes(more, "adapt") > sizes.minutes(imagenet, "adapt")


def test_each_process_of_a_training_takes_memory_and_shares_the_time() -> None:
    cifar = changed(load(PRESETS / "cifar10-lt.yaml"), supernet__epochs=1000)
    four = changed(cifar, runtime__processes=4)
    for step in ("supernet", "adapt", "retrain"):
        one = sizes.megabytes(cifar, step) - sizes.SNAKEMAKE_MB
        assert sizes.megabytes(four, step) - sizes.SNAKEMAKE_MB == 4 * one
    assert sizes.minutes(cifar, "supernet") > sizes.minutes(four, "supernet")
    for step in ("search", "evaluate"):
        assert sizes.megabytes(four, step) == sizes.megabytes(cifar, step)
        assert sizes.minutes(four, step) == sizes.minutes(cifar, step)


@pytest.mark.parametrize("preset", sorted(file.stem for file in PRESETS.glob("*.yaml")))
def test_every_preset_has_sizes(preset: str) -> None:
    params = load(PRESETS / f"{preset}.yaml")
    for step in ("supernet", "adapt", "search", "retrain", "evaluate"):
        assert 1000 <= sizes.megabytes(params, step) <= 64_000
        assert sizes.LEAST_MINUTES <= sizes.minutes(params, step) <= sizes.MOST_MINUTES


def test_a_lists_lines_count_as_rows(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.png 0\n" * 7)
    tree = load(PRESETS / "imagenet-lt.yaml").tree()
    tree["target"]["root"], tree["target"]["splits"]["train"] = str(tmp_path), "train.txt"
    assert sizes.rows(parse(tree, "params.yaml"), "target") == 7
    table = pa.table({"path": [f"{k}.png" for k in range(9)], "label": [0] * 9})
    pq.write_table(table, tmp_path / "train.parquet")
    tree["target"]["splits"]["train"] = "train.parquet"
    assert sizes.rows(parse(tree, "params.yaml"), "target") == 9


def test_an_output_that_changed_after_the_plan_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outputs, "SEEN", {})
    files = [Path("a"), Path("b")]
    for file in files:
        file.write_text("before")
    OutputRecord(Path("record.json"), ["a", "b"]).write()
    outputs.settle(Path("record.json"), ["a", "b"])
    assert outputs.moved() == []
    files[1].write_text("an earlier run's job wrote this")
    assert outputs.moved() == ["b"]
    files[0].unlink()
    assert outputs.moved() == ["a", "b"]


def test_states_of_ended_steps_are_deleted_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(".imbnas/resume/adapt")
    folder.mkdir(parents=True)
    for name in ("0.net.pt", "0.net.pt.done", "1.net.pt", "0.scores.jsonl", "0.scores.jsonl.done"):
        (folder / name).touch()
    controller.delete_finished_states()
    assert [file.name for file in folder.iterdir()] == ["1.net.pt"]
