"""The commands of docs/dvc.md, typed one after the other in a finished project."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import pytest
from workflow_docs import commands, equip
from workflow_project import Done, Project, ran

# Thirty commands, five evaluations among them: minutes on a busy machine.
pytestmark = [pytest.mark.workflow, pytest.mark.pages, pytest.mark.timeout(1800)]


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


def rows(table: str) -> dict[str, tuple[str, str]]:
    """Return bins and mixing of each row of the table of experiments, which must be narrow enough to read."""
    header, _, *lines = [[cell.strip() for cell in line.split("|")] for line in table.splitlines() if "|" in line]
    assert max(map(len, table.splitlines())) <= 120
    columns = [header.index(name) for name in ("evaluate.bins", "retrain.mixing.name")]
    names = [line[1].split("[")[-1].rstrip("]") for line in lines]
    return {name: (line[columns[0]], line[columns[1]]) for name, line in zip(names, lines, strict=True)}


def test_the_commands_of_the_page_on_dvc_work(finished: Project, tmp_path: Path) -> None:
    original = project = finished.copy(tmp_path / "project")
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
    assert len(done) >= 29

    def said(start: str, place: str = "project") -> str:
        return next(one.output for line, one in done.items() if line.startswith(f"{place}: {start}"))

    assert "didn't change, skipping" in said("dvc repro")
    assert "Running stage" not in said("dvc repro")
    # Only what is stale runs, in the workspace and in a copy.
    for start in ("dvc exp run --name bins-10", "dvc exp run --temp"):
        stages = [line for line in said(start).splitlines() if line.startswith("Running stage")]
        assert stages == ["Running stage 'evaluate':"], start
    assert "evaluate.bins" in said("dvc params diff")
    assert "results/metrics.json" in said("dvc metrics diff")
    assert "index.html" in said("dvc plots diff")
    # Of the sixteen steps of two experiments three ran.
    queued = {name: original.run("dvc", "queue", "logs", name).output for name in ("bins-5", "mixup")}
    counts = {name: dict(ran(output)) for name, output in queued.items()}
    print(f"steps that ran in the queue: {counts}")
    assert counts == {"bins-5": {"evaluate": 1}, "mixup": {"retrain": 1, "evaluate": 1}}
    print(said("make experiments SHOW=--md"))
    # The file does not name retrain.mixing.name but in the experiment that sets it.
    assert rows(said("make experiments SHOW=--md")) == {
        "workspace": ("12", "-"),
        "main": ("12", "-"),
        "bins-10": ("10", "-"),
        "bins-5": ("5", "-"),
        "mixup": ("12", "mixup"),
    }
    assert "Nothing to be done" in said("snakemake -n")
    assert original.bytes("models/supernet.safetensors") == finished.bytes("models/supernet.safetensors")
    assert original.bytes("models/final.safetensors") != finished.bytes("models/final.safetensors")
    # The clone has all of it, from the remote.
    assert "Nothing to be done" in said("snakemake -n", "clone")
    for name in ("results/details.json", "models/supernet.safetensors"):
        assert project.bytes(name) == original.bytes(name)
