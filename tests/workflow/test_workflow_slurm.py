"""`--profile slurm` where there is no Slurm: what it plans, and what its settings are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from workflow_project import ROOT, Project

pytestmark = pytest.mark.workflow
THREADS = (os.cpu_count() or 1) + 4


def test_the_profile_plans_without_slurm(fresh: Project, finished: Project) -> None:
    assert len(fresh.planned("--profile", "slurm")) == 8
    assert finished.planned(SNAKEMAKE_PROFILE="slurm") == set()


@pytest.mark.parametrize(("profile", "threads"), [("slurm", THREADS), (None, os.cpu_count())])
def test_a_stage_of_dvc_gives_a_job_the_threads_that_its_profile_allows(
    fresh: Project, tmp_path: Path, profile: str | None, threads: int
) -> None:
    # A cluster's nodes may have more processors than the host of the controller.
    project = fresh.copy(tmp_path / "project")
    project.set("runtime.threads", THREADS)
    project.edit("workflow/rules/supernet.smk", '"supernet: ', '"{threads} threads, supernet: ')
    project.edit("slurm/config.yaml", "status-checks: 20", "status-checks: 1")
    project.edit("slurm/config.yaml", "retries: 2", "retries: 0")
    # The stage's rule alone runs, as DVC asks for it: its inputs only have to be there.
    for name in ("data/source/train", "data/source/validation"):
        for file in ("images.npy", "index.parquet", "info.json"):
            (project.path / name).mkdir(parents=True, exist_ok=True)
            (project.path / name / file).touch()
    programs = {name: "exit 0" for name in ("squeue", "sacct", "scontrol", "imbnas")}
    programs |= {"sinfo": "echo main*", "sbatch": f'echo "$@" >>{tmp_path}/asked; exit 1'}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{project.env['PATH']}"}
    env |= {} if profile is None else {"SNAKEMAKE_PROFILE": profile}
    output = project.run("dvc", "repro", "--single-item", "--force", "supernet", expect=None, **env).output
    assert f": {threads} threads, supernet: " in output
    asked = (tmp_path / "asked").read_text() if profile else ""
    assert re.findall(r"--cpus-per-task[= ](\d+)", asked) == ([str(threads)] if profile else [])


def test_no_rule_knows_a_site(fresh: Project) -> None:
    profile: dict[str, Any] = yaml.safe_load((ROOT / "slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert "--signal=TERM@" in profile["default-resources"]["slurm_extra"]
    rules = "".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))
    for word in ("slurm_", "constraint:", "gres", "qos", "retries"):
        assert word not in rules
