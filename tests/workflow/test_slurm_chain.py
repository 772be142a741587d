"""`--profile slurm` on a cluster: the whole chain, its GPUs, edits while jobs wait, and DVC's stages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from slurm_run import SLURM, Cluster, Run, digests, wait_for
from workflow_project import Project, ran

pytestmark = [pytest.mark.slurm, pytest.mark.workflow, pytest.mark.slow]

HEAVY = ("supernet", "adapt", "search", "retrain", "evaluate")
LIGHT = ("source", "target", "imbalance")


def test_the_chain_from_an_empty_tree_uses_the_gpu_and_gives_the_same_bytes(
    fresh: Project, finished: Project, cluster: Cluster, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    project.set("runtime.device", "auto")
    output = Run(project, *SLURM, **cluster.env).end(patience=1200)
    assert digests(project) == digests(finished)
    assert len(re.findall(r"has been submitted with SLURM jobid", output)) == len(HEAVY)
    # CUDA_VISIBLE_DEVICES is 0, though torch finds no device behind it.
    for step in HEAVY:
        assert "on GPU 0" in (project.path / f"logs/{step}.log").read_text()
        assert len(list((project.path / f"logs/slurm/rule_{step}").glob("*.log"))) == 1
    for step in LIGHT:
        assert "on GPU" not in (project.path / f"logs/{step}.log").read_text()
        assert not (project.path / f"logs/slurm/rule_{step}").exists()
    assert list((project.path / ".imbnas/resume").rglob("*.pt")) == []
    assert "Nothing to be done" in Run(project, *SLURM, **cluster.env).end()


def test_two_runs_queue_for_one_gpu(finished: Project, cluster: Cluster, tmp_path: Path) -> None:
    runs = []
    for seed in (1, 2):
        project = finished.copy(tmp_path / f"project{seed}")
        project.set("runtime.device", "auto")
        project.set("adapt.head.epochs", 1 + seed)
        runs.append(Run(project, *SLURM, "--", "models/adapted.safetensors", **cluster.env))
    most, queued = 0, False

    def ended() -> bool:
        nonlocal most, queued
        running, waiting = cluster.jobs("RUNNING"), cluster("squeue", "-h", "--states=PENDING", "-o", "%r")
        most = max(most, len(running))
        # The node has a second CPU and memory for both: what a job waits for is the GPU.
        queued = queued or bool(running and re.search("Resources|Priority", waiting))
        return all(run.process.poll() is not None for run in runs)

    wait_for(ended)
    for run in runs:
        run.end()
    assert most == 1
    assert queued


def test_parameters_edited_while_jobs_wait_do_not_reach_them(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    project.set("adapt.head.epochs", 3)
    project.set("runtime.device", "auto")
    undisturbed = project.copy(tmp_path / "undisturbed")
    Run(undisturbed, "--cores", "2", "--", "models/adapted.safetensors").end()
    cluster("scontrol", "update", "PartitionName=main", "State=DOWN")
    # The profile's other spelling of the GPU request, for sites where --gpus is not enough.
    gres = ("--set-resources", "supernet:gpu=0", "supernet:gres='gpu:fake:1'")
    run = Run(project, *SLURM, *gres, "--", "models/adapted.safetensors", **cluster.env)
    wait_for(lambda: cluster.jobs("PENDING"), run)
    assert cluster("squeue", "-h", "-o", "%b") == "gres:gpu:fake:1"
    (project.path / "params.yaml").write_text("edited: [while the job waits")
    cluster("scontrol", "update", "PartitionName=main", "State=UP")
    jobs = ran(run.end())
    print(f"jobs that ran: {dict(jobs)}; none twice")
    assert jobs == {"supernet": 1, "adapt": 1}
    assert digests(project) == digests(undisturbed)
    assert "on GPU 0" in (project.path / "logs/supernet.log").read_text()


def test_dvc_sends_stale_stages_to_the_cluster_and_nothing_the_second_time(project: Project, cluster: Cluster) -> None:
    project.edit("slurm/config.yaml", "before-status-checks: 20", "before-status-checks: 6")
    project.set("search.generations", 1)
    env = {**cluster.env, "SNAKEMAKE_PROFILE": "slurm"}
    output = project.run("dvc", "repro", "search", **env).output
    assert re.findall(r"Running stage '(\w+)'", output) == ["search"]
    (log,) = (project.path / "logs/slurm/rule_search").glob("*.log")
    assert f"has been submitted with SLURM jobid {log.stem}" in output
    assert "search: rank subnets" in log.read_text()
    again = project.run("dvc", "repro", "search", **env).output
    assert "Running stage" not in again
    assert "submitted" not in again
