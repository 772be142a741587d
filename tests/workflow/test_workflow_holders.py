"""Snakemake's lock after its holder was killed: removed where that is certain, kept and explained elsewhere."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_run import Run, digests, wait_for
from workflow_project import ROOT, Project, ran

sys.path.insert(0, str(ROOT / "workflow/lib"))
import holders

TRAINED = "models/supernet.safetensors"
HOLD = """
import os, sys, time
sys.path[:0] = sys.argv[1:]
import holders
holders.hold()
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty project's directory, the present one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(holders, "_HELD", [])
    yield tmp_path
    for stream in holders._HELD:
        stream.close()


def lock(name: str = "0.output.lock") -> Path:
    """Leave a file of Snakemake's lock."""
    holders.LOCKS.mkdir(parents=True, exist_ok=True)
    (holders.LOCKS / name).write_text("models/supernet.safetensors\n")
    return holders.LOCKS / name


def another() -> subprocess.Popen[str]:
    """Start a process that holds the directory."""
    paths = [str(ROOT / "src"), str(ROOT / "workflow/lib")]
    process = subprocess.Popen([sys.executable, "-c", HOLD, *paths], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    return process


def remote(host: str = "login1") -> Path:
    """Leave the record of a controller on another machine."""
    holders.RECORDS.mkdir(parents=True, exist_ok=True)
    record = holders.RECORDS / f"{host}-7.json"
    record.write_text(json.dumps({"host": host, "process": 7}))
    return record


def test_the_lock_of_a_killed_holder_is_removed_and_that_of_a_living_one_stays(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = another()
    locks = [lock(), lock("1.input.lock")]
    try:
        holders.hold()
        assert all(file.exists() for file in locks)
        assert capsys.readouterr().err == ""
    finally:
        process.kill()
        process.wait()
    holders.hold()
    assert not any(file.exists() for file in locks)
    assert f"process {process.pid} on {platform.node()}" in capsys.readouterr().err
    assert [file.name for file in holders.RECORDS.glob("*.json")] == [f"{platform.node()}-{os.getpid()}.json"]


def test_the_lock_of_another_machine_stays_and_the_command_is_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = remote()
    holders.hold()
    assert capsys.readouterr().err == ""  # nothing is locked
    file = lock()
    process = another()
    process.kill()
    process.wait()
    holders.hold()
    (line,) = capsys.readouterr().err.splitlines()
    assert "process 7 on login1" in line
    assert line.endswith("snakemake --unlock")
    assert file.exists()
    assert record.exists()
    holders.hold(unlocking=True)
    assert not record.exists()


def test_a_lock_that_none_of_the_dead_can_have_taken_stays(place: Path) -> None:
    file = lock()
    os.utime(file, ns=(0, 0))
    process = another()
    process.kill()
    process.wait()
    holders.hold()
    assert file.exists()


def test_no_lock_is_removed_beside_a_living_holder(place: Path) -> None:
    dead, living = another(), another()
    file = lock()
    dead.kill()
    dead.wait()
    try:
        holders.hold()
        assert file.exists()
    finally:
        living.kill()
        living.wait()
    holders.hold()
    assert not file.exists()


def test_a_record_that_makes_no_sense_is_nobody_s(place: Path) -> None:
    holders.RECORDS.mkdir(parents=True)
    for number, text in enumerate(["", "[]", '{"host": "x"}', '{"host": 1, "process": []}', "\0"]):
        (holders.RECORDS / f"{number}.json").write_text(text)
    assert holders.holders() == []


@pytest.mark.workflow
def test_a_run_whose_controller_was_killed_is_simply_started_again(
    finished: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = finished.copy(tmp_path_factory.mktemp("killed") / "project")
    project.set("supernet.epochs", 60)
    project.set("runtime.state_interval", 0.2)
    undisturbed = project.copy(tmp_path_factory.mktemp("undisturbed") / "project")
    undisturbed.run("snakemake", "--cores", "2", "--", TRAINED)
    states = project.path / ".imbnas/resume/supernet"
    run = Run(project, "--cores", "2", "--", TRAINED)
    wait_for(lambda: list(states.glob("*.pt")), run)
    assert list((project.path / holders.LOCKS).glob("*.lock"))
    # The controller and its children: the training goes on from its saved state.
    run.kill()
    again = Run(project, "--cores", "2", "--", TRAINED).end()
    assert f"process {run.process.pid} on {platform.node()}" in again
    assert ran(again) == {"supernet": 1}
    assert digests(project) == digests(undisturbed)
    assert list((project.path / holders.RECORDS).glob("*.json")) == []
