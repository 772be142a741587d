"""A study on a cluster: what cells share is trained once; the next call does only what a killed job has left undone."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from slurm_run import SLURM, Cluster, Run, digests, stopped, wait_for
from workflow_project import Project, ran

# 110 jobs: minutes, on a busy machine many.
pytestmark = [pytest.mark.slurm, pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(3600)]

# 2 ratios x 3 strategies x 2 seeds. Source, target and imbalance are light: they run beside the controller.
LIGHT = {"source": 1, "target": 1, "imbalance": 2}
SHARED = {**LIGHT, "supernet": 2}


def submitted(output: str) -> int:
    """Return how many jobs a controller has sent to Slurm."""
    return len(re.findall("has been submitted with SLURM jobid", output))


def test_a_killed_job_costs_its_cell_alone_and_the_next_call_completes_it(
    fresh: Project, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = fresh.copy(tmp_path_factory.mktemp("study") / "project")
    for name in ("adapt.scratch.epochs", "search.generations"):
        project.set(name, 1)
    project.set("retrain.references", False)
    undisturbed = project.copy(tmp_path_factory.mktemp("undisturbed") / "project")

    command = (*SLURM, "--retries", "0", "study")
    folder = tmp_path_factory.mktemp("stopped")
    job = folder / "job"
    run = Run(project, *command, **cluster.env, PYTHONPATH=stopped(folder / "site", "retrain", job))
    wait_for(job.exists, run, patience=1500)
    cluster("scancel", "--signal=KILL", "--full", job.read_text())
    output = run.end(expect=1, patience=1500)
    cells = pd.read_csv(project.path / "study/cells.csv")
    assert len(cells) == 12
    lost = cells[~cells["finished"]]
    assert len(lost) == 1, f"{cluster.failed()}\n{lost.to_string()}\n{output}"
    left = lost.index[0]
    digest = cells.loc[left, "job_retrain"]
    assert cells.loc[left, "stopped_at"] == f"retrain/{digest}"
    assert f"not finished: cell {left} (" in output
    assert output.count("study: not finished: cell") == 1
    assert ran(output) == {**SHARED, "adapt": 12, "search": 12, "retrain": 11, "evaluate": 11}
    assert submitted(output) == 2 + 12 + 12 + 12 + 11
    assert pd.read_parquet(project.path / "study/results.parquet")["cell"].nunique() == 11

    again = Run(project, *command, **cluster.env).end()
    assert ran(again) == {"retrain": 1, "evaluate": 1, "study": 1}
    assert submitted(again) == 3
    assert len(list((project.path / "logs/slurm/rule_study_supernet").rglob("*.log"))) == 2
    for step in LIGHT:
        assert not (project.path / f"logs/slurm/rule_study_{step}").exists()
    print(f"first call: {dict(ran(output))}; retrain/{digest} killed; second call: {dict(ran(again))}")

    alone = Run(undisturbed, "--cores", "2", "study").end(patience=1500)
    assert ran(alone) == {**SHARED, **dict.fromkeys(["adapt", "search", "retrain", "evaluate"], 12), "study": 1}
    assert digests(project, "study") == digests(undisturbed, "study")
    assert "study/results.parquet" in digests(project, "study")
