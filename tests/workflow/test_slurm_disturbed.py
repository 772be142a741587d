"""What clusters do to jobs, done during a training: each run ends in the bytes of an undisturbed one."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import torch
from slurm_run import EPOCHS, SLURM, TRAINED, Cluster, Run, Watch, balloon, digests, power_off, wait_for
from workflow_project import Project

from imbnas.sealed import open_sealed

pytestmark = [pytest.mark.slurm, pytest.mark.workflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def prepared(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the project with a longer training of the supernet ahead, whose state is often saved."""
    project = finished.copy(tmp_path_factory.mktemp("prepared") / "project")
    project.set("supernet.epochs", EPOCHS)
    project.set("runtime.device", "auto")
    project.set("runtime.state_interval", 0.2)
    return project


@pytest.fixture(scope="module")
def expected(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the digests after an undisturbed run on this machine."""
    project = prepared.copy(tmp_path_factory.mktemp("undisturbed") / "project")
    Run(project, "--cores", "2", "--", TRAINED).end()
    return digests(project)


class Training:
    """A run on the cluster whose supernet is being trained."""

    def __init__(self, project: Project, cluster: Cluster, *options: str, **env: str) -> None:
        self.project, self.cluster, self.options = project, cluster, options
        rows = len(pd.read_parquet(project.path / "data/source/train/index.parquet"))
        (project.path / "logs/supernet.log").unlink()
        self.watch = Watch(project, math.ceil(rows / 128))
        self.env = {**cluster.env, **env}
        self.run = self.again()
        wait_for(lambda: self.watch.epoch() >= 5 and self.states(), self.run)
        self.job = cluster.rule("supernet")
        with open_sealed(self.states()[0]) as stream:
            self.saved = torch.load(stream, weights_only=True)["step"]

    def again(self) -> Run:
        """Start the same command."""
        return Run(self.project, *SLURM, *self.options, "--", TRAINED, **self.env)

    def states(self) -> list[Path]:
        return sorted((self.project.path / ".imbnas/resume/supernet").glob("*.pt"))

    def check(self, expected: dict[str, str], attempts: int = 2) -> None:
        """Assert the bytes, and that attempts went on from where the one before had saved its state."""
        starts, repeated = self.watch.end()
        print(f"saved before: step {self.saved}; went on from: {starts}; steps of whole epochs done twice: {repeated}")
        assert digests(self.project) == expected
        assert len(starts) == attempts - 1
        assert all(step >= self.saved for step in starts)
        # A state is saved every 0.2 seconds: a step takes some 30 ms.
        assert repeated <= 2 * self.watch.per_epoch + 20
        assert self.states() == []


@pytest.fixture
def start(prepared: Project, expected: dict[str, str], cluster: Cluster, tmp_path: Path) -> Callable[..., Training]:
    """Return a function that starts a training on the cluster."""
    return lambda *options, **env: Training(prepared.copy(tmp_path / "project"), cluster, *options, **env)


def test_preempted_and_queued_again(start, cluster: Cluster, expected) -> None:
    training = start("--set-resources", "supernet:slurm_partition=low")
    cluster("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap", "sleep 5")
    wait_for(lambda: training.job in cluster.jobs("PENDING"), training.run)
    training.run.end()
    training.check(expected)


def test_time_limit(start, cluster: Cluster, expected) -> None:
    training = start()
    cluster("scontrol", "update", f"JobId={training.job}", "TimeLimit=2")
    # Slurm looks at limits every 30 seconds: make the training slow until the signal has come.
    (lock,) = (training.project.path / ".imbnas/locks").glob("supernet-*.lock")
    process = json.loads(lock.read_text())["process"]
    while "stopped: state saved" not in training.watch.attempts[0]:
        assert training.run.process.poll() is None, training.run.output
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(process, signal.SIGCONT)
        time.sleep(0.1)
    assert "Trying to restart job" in training.run.end()
    training.check(expected)


def test_killed_for_memory(start, cluster: Cluster, expected, tmp_path: Path) -> None:
    flag = tmp_path / "inflate"
    options = ("--set-resources", "supernet:mem_mb=2000*attempt")
    training = start(*options, PYTHONPATH=balloon(tmp_path / "balloon", 2000, flag))
    flag.touch()
    output = training.run.end()
    assert "Trying to restart job" in output
    log = (training.project.path / f"logs/slurm/rule_supernet/{training.job}.log").read_text()
    assert "memory limit" in log
    training.check(expected)


def test_node_goes_down_and_returns(start, cluster: Cluster, expected) -> None:
    training = start()
    node = cluster("sinfo", "-h", "-N", "-o", "%N").split()[0]
    power_off(str(Path(cluster.env["SLURM_CONF"]).parent))
    # Slurm would notice by itself after SlurmdTimeout, five minutes.
    cluster("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    wait_for(lambda: training.job in cluster.jobs("PENDING"), training.run)
    cluster("slurmd", "-N", node)
    training.run.end()
    training.check(expected)


def test_job_is_cancelled(start, cluster: Cluster, expected) -> None:
    training = start()
    cluster("scancel", training.job)
    training.run.end()
    training.check(expected)


def test_controller_is_killed_and_started_again(start, cluster: Cluster, expected) -> None:
    training = start()
    training.run.kill()
    assert cluster.jobs("RUNNING") == [training.job]
    killed = training.run.process.pid
    training.run = training.again()
    wait_for(lambda: "waiting for them" in training.run.output, training.run)
    assert f"process {killed} on" in training.run.output
    assert f"{training.job} (supernet, running)" in training.run.output
    while training.job in cluster.jobs("RUNNING", "COMPLETING"):
        assert set(cluster.jobs("PENDING", "RUNNING", "COMPLETING")) <= {training.job}, "a second copy was submitted"
        time.sleep(0.2)
    training.run.end()
    training.check(expected)
    assert training.watch.end() == ([EPOCHS * training.watch.per_epoch], 0)


def test_controller_is_killed_and_its_job_ends_before_the_next(start, cluster: Cluster, expected) -> None:
    training = start()
    training.run.kill()
    wait_for(lambda: not cluster.jobs("RUNNING", "COMPLETING"))
    training.run = training.again()
    training.run.end()
    training.check(expected)
    assert training.watch.end() == ([EPOCHS * training.watch.per_epoch], 0)


def test_a_second_run_in_the_directory_is_refused(start, expected) -> None:
    training = start()
    refused = training.again().end(expect=1)
    assert "cannot be locked" in refused
    assert "--unlock" in refused
    training.run.end()
    training.check(expected, attempts=1)
