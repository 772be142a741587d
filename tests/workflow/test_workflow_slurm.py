"""`--profile slurm`: what it plans anywhere, and on a cluster of one node where Slurm is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workflow_project import Project

pytestmark = pytest.mark.workflow

STARTER = os.environ.get("IMBNAS_TEST_SLURM", "")
"""A program: `STARTER start DIR` starts a cluster in DIR and prints the environment of its clients; `stop` ends it."""


def test_the_profile_plans_without_slurm(fresh: Project, finished: Project) -> None:
    assert len(fresh.planned("--profile", "slurm")) == 8
    assert finished.planned(SNAKEMAKE_PROFILE="slurm") == set()


@pytest.fixture
def cluster() -> Iterator[dict[str, str]]:
    """Start a Slurm cluster and return the environment in which its commands are found."""
    if not STARTER or not shutil.which("sbatch"):
        pytest.skip("no Slurm cluster to start: sbatch and a program named by IMBNAS_TEST_SLURM are needed")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # munge insists
    script = f'eval "$({STARTER} start {folder})"; env -0'
    result = subprocess.run(["bash", "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    env = dict(line.split("=", 1) for line in result.stdout.split("\0") if "=" in line)
    yield {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "SLURM_CONF": env["SLURM_CONF"]}
    subprocess.run([STARTER, "stop", folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_job_that_waited_runs_as_it_was_submitted(project: Project, cluster: dict[str, str]) -> None:
    env = {**project.env, **cluster}
    project.set("imbalance.ratio", 7.0)
    subprocess.run(["scontrol", "update", "PartitionName=main", "State=DOWN"], env=env, check=True)
    options = ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "6", "--", "data/longtail.parquet"]
    controller = subprocess.Popen(["snakemake", *options], cwd=project.path, env=env, stdout=-1, stderr=-2, text=True)
    deadline = time.monotonic() + 120
    while not subprocess.run(["squeue", "--noheader"], env=env, check=True, stdout=-1).stdout:
        assert time.monotonic() < deadline, "no job was submitted"
        assert controller.poll() is None, controller.communicate()[0]
        time.sleep(0.2)
    (project.path / "params.yaml").write_text("edited: [while the job waits")
    subprocess.run(["scontrol", "update", "PartitionName=main", "State=UP"], env=env, check=True)
    output, _ = controller.communicate(timeout=300)
    assert controller.returncode == 0, output
    assert "has been submitted with SLURM jobid" in output
    assert json.loads(project.bytes("results/imbalance.json"))["ratio"] == 7.0
