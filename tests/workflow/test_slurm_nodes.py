"""A training on several GPUs, on a cluster whose nodes have no more of them than it asks for."""

from __future__ import annotations

import pytest
from slurm_run import SLURM, Cluster, Run, wait_for
from workflow_project import Project

pytestmark = [pytest.mark.slurm, pytest.mark.workflow, pytest.mark.slow]

HOLD = ("sbatch", "--parsable", "--gpus=1", "--output=/dev/null", "--wrap=sleep 3600")
"""A job that takes a GPU. Slurm would leave its output in the directory of the one who submits it."""


@pytest.mark.parametrize("study", [False, True], ids=["chain", "study"])
def test_a_training_on_two_gpus_waits_for_both_of_one_node(
    finished: Project, two_nodes: Cluster, tmp_path_factory: pytest.TempPathFactory, study: bool
) -> None:
    project = finished.copy(tmp_path_factory.mktemp("nodes") / "project")
    project.set("runtime.device", "auto")
    project.set("runtime.processes", 2)
    project.set("study.axes", {"seed": [0]})
    # One GPU of each node is taken: two are free, but not on one node.
    held = {}
    for node in ("n1", "n2"):
        held[node] = two_nodes(*HOLD, f"--nodelist={node}")
    wait_for(lambda: len(two_nodes.jobs("RUNNING")) == 2)
    rule = "study_supernet" if study else "supernet"
    targets = ["study", "--until", rule] if study else ["--", "models/supernet.safetensors"]
    run = Run(project, *SLURM, *targets, **two_nodes.env)
    told: list[str] = []

    def decided() -> bool:
        lines = two_nodes("squeue", "-h", "-o", "%k|%T|%r|%N").splitlines()
        told[:] = next((line.split("|")[1:] for line in lines if line.startswith(f"rule_{rule}")), [])
        return bool(told) and (told[0] == "RUNNING" or told[1] == "Resources")

    wait_for(decided, run)
    assert told == ["PENDING", "Resources", ""]
    two_nodes("scancel", held["n2"])
    wait_for(lambda: decided() and told[0] == "RUNNING", run)
    assert told[2] == "n2"
    run.end()
    (log,) = project.path.glob("logs/study/supernet/*.log" if study else "logs/supernet.log")
    assert "in 2 processes on GPUs 0,1" in log.read_text()
