"""A step runs once at a time: here, on another machine, and after its holder died."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_chain

from imbnas.errors import UserError
from imbnas.run import lock

HOLD = """
import sys
from pathlib import Path
from imbnas.run import lock
with lock.sole(Path(sys.argv[1]), lambda line: print(line, flush=True)):
    print("runs", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("IMBNAS_RUN", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(lock, "ASK_SECONDS", 0.01)
    return tmp_path / "locks/adapt-0.lock"


def holder(path: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_is_refused_and_told_of_the_first(path: Path) -> None:
    first = holder(path, SLURM_JOB_ID="12")
    assert line(first) == "runs"
    with (
        pytest.raises(UserError, match=rf"Slurm job 12, {first.pid} on .* runs this step"),
        lock.sole(path, print),
    ):
        pass
    first.communicate("")
    with lock.sole(path, print):
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert path.read_text() == ""


def test_under_a_controller_it_waits_until_the_first_ends_or_dies(path: Path) -> None:
    first = holder(path)
    assert line(first) == "runs"
    second = holder(path, IMBNAS_RUN=".imbnas/runs/0")
    assert line(second).endswith("runs this step: waiting for it")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert line(second) == "runs"
    second.communicate("")


def test_a_job_on_another_machine_counts_as_long_as_slurm_knows_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def active(job: str) -> bool:
        asked.append(job)
        return len(asked) < 4

    monkeypatch.setattr(lock, "active", active)
    path.parent.mkdir()
    elsewhere = json.dumps({"host": "node-of-no-name", "process": 5, "job": "77"})
    path.write_text(elsewhere)
    with pytest.raises(UserError, match="Slurm job 77, 5 on node-of-no-name"), lock.sole(path, print):
        pass
    monkeypatch.setenv("IMBNAS_RUN", "0")
    told: list[str] = []
    with lock.sole(path, told.append):
        assert asked == ["77"] * 4
    assert len(told) == 1
    # The same job, queued again, may go on at once.
    path.write_text(elsewhere)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with lock.sole(path, told.append):
        assert (len(asked), len(told)) == (4, 1)


@pytest.mark.parametrize(("answer", "alive"), [("echo RUNNING", True), ("echo", False), ("echo ABC; exit 1", False)])
def test_slurm_is_asked_with_squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, alive: bool) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not lock.active("3")
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / "squeue").chmod(0o755)
    assert lock.active("3") is alive


def test_a_file_system_without_locks_stops_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: object, operation: int) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    number = errno.ENOLCK
    with lock.sole(path, print):
        assert json.loads(path.read_text())["process"] == os.getpid()
    number = errno.EIO
    with pytest.raises(OSError, match="no locks here"), lock.sole(path, print):
        pass


def test_other_outputs_are_another_lock(tmp_path: Path) -> None:
    names = {lock.lock_path(tmp_path, "adapt", [Path(output)]).name for output in ("a", "b", str(Path.cwd() / "a"))}
    assert len(names) == 2
    assert all(name.startswith("adapt-") for name in names)


def test_a_step_that_another_process_runs_is_refused(chain: Path, tmp_path: Path, path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path / "chain")
    before = tiny_chain.digests(root, "imbalance")
    outputs = [root / "data/longtail.parquet", root / "results/imbalance.json"]
    first = holder(lock.lock_path(root, "imbalance", outputs))
    assert line(first) == "runs"
    assert tiny_chain.run(root, "imbalance") == 2
    first.communicate("")
    assert tiny_chain.run(root, "imbalance") == 0
    assert tiny_chain.digests(root, "imbalance") == before


def test_a_controller_finds_the_state_of_a_step_whose_end_it_did_not_hear_of(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path / "chain")
    before = tiny_chain.digests(root, "adapt")
    monkeypatch.setenv("IMBNAS_RUN", "0")
    assert tiny_chain.run(root, "adapt") == 0
    kept = sorted(file.suffix for file in (root / ".imbnas/resume/adapt").iterdir())
    # The state and the cost, each with its mark.
    assert kept == [".done", ".done", ".json", ".pt"]
    spent = json.loads((root / "results/cost-details.json").read_text())["steps"]["adapt"]["seconds"]
    (root / "models/adapted.safetensors").unlink()
    assert tiny_chain.run(root, "adapt") == 0
    assert tiny_chain.digests(root, "adapt") == before
    assert "goes on from optimiser step" in (root / "logs/adapt.log").read_text()
    entry = json.loads((root / "results/cost-details.json").read_text())["steps"]["adapt"]
    assert entry["attempts"] == 2
    assert entry["seconds"] > spent, "the cost of the result is what both attempts took"
