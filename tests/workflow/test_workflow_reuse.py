"""A supernet of another project in both tools: stale with what the file holds, not with its date or its neighbours."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from workflow_project import Project

from imbnas.training.checkpoint import load_weights, save_weights

pytestmark = pytest.mark.workflow

FILE = "supernets/a.safetensors"


SUPERNET = "models/supernet.safetensors"


@pytest.fixture(scope="module")
def experiment(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a finished project that has changed to a supernet of another one, by an experiment of DVC."""
    project = finished.copy(tmp_path_factory.mktemp("experiment") / "project")
    shutil.copy(project.path / SUPERNET, project.path / FILE)
    assert project.planned() == set(), "no parameter names it"
    # Any other file in the directory renews the digests, and trains nothing.
    assert project.stale() == {"code"}
    output = project.run("dvc", "exp", "run", "-S", f"supernet.reuse={FILE}", "supernet").output
    assert re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE) == ["code", "source", "supernet"]
    return project


@pytest.fixture
def reusing(experiment: Project, tmp_path: Path) -> Project:
    """Return a copy of that project, to be changed."""
    return experiment.copy(tmp_path / "project")


def change(file: Path) -> None:
    """Give a supernet other weights, in a file of the same size and date."""
    weights, meta = load_weights(file)
    times = file.stat()
    weights["head.bias"] = weights["head.bias"] + 1
    save_weights(file, weights, {name: value for name, value in meta.items() if name != "format"})
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_both_tools_are_stale_with_the_content_and_not_with_the_date(reusing: Project) -> None:
    project, own = reusing, {"code", "source", "supernet"}
    assert f"nothing is trained: the supernet is {FILE}" in (project.path / "logs/supernet.log").read_text()
    taken = project.bytes(SUPERNET)
    assert (project.planned(SUPERNET), project.stale() & own) == (set(), set())
    os.utime(project.path / FILE)
    assert (project.planned(SUPERNET), project.stale() & own) == (set(), set())
    change(project.path / FILE)
    assert project.planned(SUPERNET) == {"source", "supernet"}
    assert project.stale() & own == {"code"}
    stages = re.findall(r"^Running stage '(\w+)'", project.run("dvc", "repro", "supernet").output, re.MULTILINE)
    assert stages == ["code", "source", "supernet"]
    assert project.bytes(SUPERNET) != taken
    assert (project.planned(SUPERNET), project.stale() & own) == (set(), set())


def test_a_stage_alone_does_not_record_another_file_s_digest(reusing: Project) -> None:
    change(reusing.path / FILE)
    reusing.set("supernet.probe_paths", 3)
    done = reusing.run("dvc", "repro", "--single-item", "supernet", expect=None)
    assert done.code != 0
    assert "error: code.json: not the digest of supernet.reuse as it is now, expected it" in done.output


def test_a_file_that_does_not_fit_stops_both_tools_before_any_job(reusing: Project) -> None:
    (reusing.path / FILE).write_bytes(b"x" * 100)
    for command in (("snakemake", "-n"), ("dvc", "repro")):
        done = reusing.run(*command, expect=None)
        assert done.code != 0
        assert f"error: supernet.reuse: {FILE}: not a whole safetensors file" in done.output
        assert "Traceback" not in done.output


def test_a_study_over_targets_shares_the_file_and_trains_no_supernet(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    shutil.copy(project.path / SUPERNET, project.path / FILE)
    project.set("supernet.reuse", FILE)
    project.set("study.axes", {"target.seed": [0, 1], "seed": [0]})
    planned = dict(re.findall(r"^study_(\w+) +(\d+)$", project.run("snakemake", "-n", "study").output, re.MULTILINE))
    assert (planned["target"], planned["supernet"], planned["source"]) == ("2", "1", "1")
    (plan,) = (project.path / ".imbnas/runs").glob("*/study.json")
    (digest,) = {cell["supernet"] for cell in json.loads(plan.read_text())}
    project.run("snakemake", "--cores", "1", "--", f"study/supernet/{digest}/supernet.safetensors")
    log = (project.path / f"logs/study/supernet/{digest}.log").read_text()
    assert "nothing is trained" in log
    assert "epoch 1" not in log
    assert project.planned("study") >= {"study_target", "study_adapt"}
    assert not project.planned("study") & {"study_source", "study_supernet"}
    change(project.path / FILE)
    assert project.planned("study") >= {"study_source", "study_supernet"}
