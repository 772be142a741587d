"""The commands of docs/dvc.md, typed one after the other in a finished project."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path

import pytest
from workflow_docs import commands
from workflow_project import ROOT, Done, Project

# Thirty commands, five evaluations among them: minutes on a busy machine.
pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(1800)]


def equip(project: Project) -> None:
    """Give the project what `make` wants: the Makefile, and the environment in which the tests run as its own."""
    for name in ("Makefile", "requirements-uv.lock"):
        shutil.copy2(ROOT / name, project.path)
    (project.path / ".venv").mkdir()
    (project.path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    for name in (".uv", ".ready"):
        (project.path / ".venv" / name).touch()
        os.utime(project.path / ".venv" / name, (2**31, 2**31))


def wait(project: Project) -> None:
    """Wait until no experiment is queued or runs."""
    deadline = time.monotonic() + 900
    while True:
        states = project.run("dvc", "queue", "status").output
        if "Queued" not in states and "Running" not in states:
            assert "Failed" not in states, states
            return
        assert time.monotonic() < deadline, states
        time.sleep(1)


def test_the_commands_of_the_page_on_dvc_work(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    equip(project)
    project.set("evaluate.bins", 12)  # so that there is something to run, to record and to commit
    done: dict[str, Done] = {}
    for line in commands("dvc.md"):
        words = shlex.split(line)
        if words[0] == "cd":
            project = Project((project.path / words[1]).resolve(), project.env, project.server)
            equip(project)
        elif words[0] in ("dvc", "snakemake"):
            done[f"{project.path.name}: {line}"] = project.run(*words)
        else:
            done[f"{project.path.name}: {line}"] = project.shell(*words)
        if line.startswith("dvc queue start"):
            wait(project)
    assert len(done) >= 28

    def said(start: str, place: str = "project") -> str:
        return next(one.output for line, one in done.items() if line.startswith(f"{place}: {start}"))

    assert "didn't change, skipping" in said("dvc repro")
    assert "Running stage" not in said("dvc repro")
    # Only what is stale runs, in the workspace and in a copy.
    for start in ("dvc exp run --name bins-10", "dvc exp run --temp"):
        ran = [line for line in said(start).splitlines() if line.startswith("Running stage")]
        assert ran == ["Running stage 'evaluate':"], start
    assert "evaluate.bins" in said("dvc params diff")
    assert "results/metrics.json" in said("dvc metrics diff")
    assert "index.html" in said("dvc plots diff")
    header, *rows = [line for line in said("dvc exp show").splitlines() if line.startswith("|")]
    column = [cell.strip() for cell in header.split("|")].index("evaluate.bins")
    values = {row.split("|")[1].strip().split("[")[-1].rstrip("]"): row.split("|")[column].strip() for row in rows}
    assert {name: values[name] for name in ("bins-10", "bins-5", "bins-20")} == {
        "bins-10": "10",
        "bins-5": "5",
        "bins-20": "20",
    }
    narrow = said("make experiments").splitlines()
    assert any("seconds" in line and "balanced_accuracy" in line for line in narrow)
    assert "Nothing to be done" in said("snakemake -n")
    assert json.loads((tmp_path / "project/results/details.json").read_text())["ece"]["bins"] == 20
    # The clone has all of it, from the remote.
    assert "Nothing to be done" in said("snakemake -n", "clone")
    for name in ("results/details.json", "models/supernet.safetensors"):
        assert project.bytes(name) == (tmp_path / "project" / name).read_bytes()
