"""`snakemake study`: what runs, what cells share, what a failed cell leaves behind, and what git keeps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from once import made_once
from workflow_project import Project, ran

from imbnas.run.graph import STEPS

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

# No class has so many rows: the step refuses them when it sees the data.
AXES: dict[str, list[Any]] = {"imbalance.n_max": [60, 100_000], "evaluate.bins": [15, 5]}
CELL = {"study_imbalance", "study_adapt", "study_search", "study_retrain", "study_evaluate", "study"}


def set_axes(project: Project, axes: dict[str, list[Any]]) -> None:
    tree = yaml.safe_load((project.path / "params.yaml").read_text())
    tree["study"]["axes"] = axes
    (project.path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def wanted(project: Project) -> dict[str, int]:
    """Return how many jobs of each step the study would run."""
    found = re.findall(r"^study_(\w+) +(\d+)$", project.run("snakemake", "-n", "study").output, re.MULTILINE)
    return {step: int(count) for step, count in found}


@pytest.fixture(scope="module")
def failed(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """Return a project whose study has run, in which half of the cells fail, and what that run said."""

    def make(folder: Path) -> None:
        project = fresh.copy(folder / "project")
        set_axes(project, AXES)
        (folder / "output").write_text(project.run("snakemake", "--cores", "2", "study", expect=1).output)

    folder = made_once(tmp_path_factory, "study", make)
    return Project(folder / "project", fresh.env, fresh.server), (folder / "output").read_text()


@pytest.fixture
def project(failed: tuple[Project, str], tmp_path: Path) -> Project:
    return failed[0].copy(tmp_path / "project")


def test_a_failed_cell_does_not_stop_the_others(failed: tuple[Project, str]) -> None:
    project, output = failed
    chain = dict.fromkeys(["source", "target", "imbalance", "supernet", "adapt", "search", "retrain"], 1)
    assert ran(output) == {**chain, "evaluate": 2}
    # The axes have the order of the file, also for the jobs: each cell's results are of its own parameters.
    table = pd.read_parquet(project.path / "study/results.parquet")
    assert list(table.columns[:3]) == ["cell", "imbalance.n_max", "evaluate.bins"]
    assert table.groupby("cell")[["imbalance.n_max", "evaluate.bins"]].first().to_numpy().tolist() == [
        [60, 15],
        [60, 5],
    ]
    for path, bins in zip(table.groupby("cell")["job_evaluate"].first(), (15, 5), strict=True):
        found = json.loads((project.path / f"study/evaluate/{path}/details.json").read_text())
        assert (found["ece"]["bins"], max(found["imbalance"]["counts"])) == (bins, 60)
    assert output.count("study: not finished: cell") == 2
    assert "cell 2 (imbalance.n_max=100000, evaluate.bins=15), see logs/study/imbalance/" in output
    cells = pd.read_csv(project.path / "study/cells.csv")
    assert list(cells["finished"]) == [True, True, False, False]
    log = project.path / f"logs/study/{cells.loc[2, 'stopped_at']}.log"
    assert "imbalance.n_max" in log.read_text()
    assert "Traceback" not in output


def test_the_next_call_wants_only_what_is_not_done(project: Project) -> None:
    assert project.planned("study") == CELL
    # Two cells share an imbalance, an adaptation, a search and a retraining.
    shared = dict.fromkeys(["imbalance", "adapt", "search", "retrain"], 1)
    assert wanted(project) == {**shared, "evaluate": 2}
    assert project.planned() == {*STEPS}


def test_without_the_failing_cells_only_the_tables_are_made_anew(project: Project) -> None:
    set_axes(project, {**AXES, "imbalance.n_max": [60]})
    assert project.planned("study") == {"study"}
    project.run("snakemake", "--cores", "2", "study")
    assert project.planned("study") == set()
    assert list(pd.read_csv(project.path / "study/cells.csv")["finished"]) == [True, True]
    kept = project.bytes("study/results.parquet")
    # A new cell shares all but its evaluation.
    set_axes(project, {**AXES, "imbalance.n_max": [60], "evaluate.bins": [15, 5, 7]})
    assert project.planned("study") == {"study_evaluate", "study"}
    # An edit of code runs what imports it.
    set_axes(project, {**AXES, "imbalance.n_max": [60]})
    assert project.planned("study") == set()
    with (project.path / "src/imbnas/report/plots.py").open("a") as stream:
        stream.write("# edited\n")
    assert project.planned("study") == {"study_evaluate", "study"}
    output = project.run("snakemake", "--cores", "2", "study").output
    assert ran(output) == {"evaluate": 2, "study": 1}
    assert project.bytes("study/results.parquet") == kept
    with (project.path / "src/imbnas/study/figures.py").open("a") as stream:
        stream.write("# edited\n")
    assert project.planned("study") == {"study"}
    # DVC knows of no study. Its tables and figures are git's to keep, its jobs' files nobody's.
    assert "study" not in project.run("dvc", "status").output
    project.shell("git", "add", "-A")
    names = project.shell("git", "ls-files", "study").output.split()
    assert {"study/cells.csv", "study/results.parquet", "study/table.html"} <= set(names)
    assert {Path(name).parent.as_posix() for name in names} == {"study", "study/figures"}


def test_foreign_files_are_noticed(project: Project) -> None:
    set_axes(project, {**AXES, "imbalance.n_max": [60]})
    network = next((project.path / "study/retrain").rglob("final.safetensors"))
    network.write_bytes(network.read_bytes() + b" ")
    assert project.planned("study") == {"study_retrain", "study_evaluate", "study"}


def test_a_wrong_cell_is_one_line_before_any_job(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    set_axes(project, {"imbalance.ratio": [10.0, -1.0]})
    done = project.run("snakemake", "--cores", "1", "study", expect=1)
    lines = [line for line in done.output.splitlines() if not line.startswith("Using workflow specific")]
    assert lines == [
        "error: params.yaml: study.axes: cell imbalance.ratio=-1.0: imbalance.ratio: found -1.0, "
        "expected a number above 0"
    ]
    assert project.planned() == {*STEPS}


def test_a_thousand_cells_are_planned(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    strategies = ["none", "head", "finetune", "scratch"]
    set_axes(
        project,
        {
            "imbalance.ratio": [float(ratio) for ratio in range(10, 110, 10)],
            "adapt.strategy": strategies,
            "seed": list(range(25)),
        },
    )
    assert wanted(project) == {
        **dict.fromkeys(["source", "target"], 1),
        "supernet": 25,
        "imbalance": 10,
        **dict.fromkeys(["adapt", "search", "retrain", "evaluate"], 1000),
    }
