"""What an edit makes stale, in Snakemake and in DVC: what it must, and no more."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from workflow_project import Project

pytestmark = pytest.mark.workflow

CHAIN = ["adapt", "search", "retrain", "evaluate"]
ALL = {"source", "target", "imbalance", "supernet", *CHAIN}


def test_a_finished_project_has_nothing_stale(finished: Project) -> None:
    # `dvc commit` has linked every output anew: other times, same bytes.
    assert finished.planned() == set()
    assert finished.stale() == set()


def test_a_table_that_scores_architectures_makes_the_search_stale(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    (project.path / "tables/t.csv").write_text("architecture,validation\n")
    assert project.planned() == set(), "no parameter names it"
    assert project.stale() == {"search"}, "DVC knows the directory alone"
    project.set("search.table", "tables/t.csv")
    assert project.planned() >= {"search", "retrain", "evaluate"}


@pytest.mark.parametrize(
    ("name", "value", "rules", "stages"),
    [
        ("runtime.workers", 5, set(), set()),
        ("runtime.state_interval", 1.0, set(), set()),
        ("runtime.memory", 1.0, set(), set()),
        ("runtime.gpu_share", 0.5, set(), set()),
        ("runtime.together", 3, set(), set()),
        ("evaluate.int8", True, {"evaluate"}, {"evaluate"}),
        ("retrain.epochs", 3, {"retrain", "evaluate"}, {"retrain"}),
        ("search.population", 5, {"search", "retrain", "evaluate"}, {"search"}),
        ("retrain.init", "handed", {"search", "retrain", "evaluate"}, {"search", "retrain"}),
        ("approximate.multiplier", "exact", {"search", "retrain", "evaluate"}, {"search", "retrain", "evaluate"}),
        ("retrain.finetune.epochs", 3, {"retrain", "evaluate"}, {"retrain"}),
        ("adapt.strategy", "finetune", set(CHAIN), {"adapt"}),
        ("imbalance.ratio", 5.0, {"imbalance", *CHAIN}, {"imbalance"}),
        ("supernet.optimizer.lr", 0.05, {"supernet", *CHAIN}, {"supernet"}),
        ("target.test_fraction", 0.3, {"target", "imbalance", *CHAIN}, {"target"}),
        ("source.share", 0.35, ALL, {"source", "target"}),
        ("runtime.threads", 2, {"supernet", *CHAIN}, {"supernet", *CHAIN}),
        ("seed", 1, {"supernet", *CHAIN}, {"supernet", *CHAIN}),
        ("target.seed", 1, {"target", "imbalance", *CHAIN}, {"target"}),
        ("source.seed", 1, ALL, {"source", "target"}),
    ],
)
def test_a_parameter_reruns_its_steps(
    project: Project, name: str, value: Any, rules: set[str], stages: set[str]
) -> None:
    project.set(name, value)
    assert project.planned() == rules
    assert project.stale() == stages


def test_two_values_that_change_places_are_noticed(project: Project) -> None:
    # Snakemake compares the set of values, without names.
    project.set("search.generations", 4)
    project.set("search.population", 2)
    assert project.planned() == {"search", "retrain", "evaluate"}


@pytest.mark.parametrize(
    ("file", "rules", "stages"),
    [
        ("src/imbnas/longtail/losses.py", set(CHAIN), {"adapt", "search", "retrain"}),
        ("src/imbnas/report/plots.py", {"evaluate"}, {"evaluate"}),
        ("src/imbnas/params/differentiable.py", {"search", "retrain", "evaluate"}, {"search"}),
        ("src/imbnas/data/builtin.py", ALL, {"source", "target"}),
        ("src/imbnas/cli.py", set(), set()),
        ("requirements.lock", ALL, ALL),
    ],
)
def test_code_reruns_the_steps_that_import_it(project: Project, file: str, rules: set[str], stages: set[str]) -> None:
    with (project.path / file).open("a") as stream:
        stream.write("# edited\n")
    assert project.planned() == rules
    if file.startswith("src/"):
        # What follows for the others is known as soon as this stage has run.
        assert project.stale() == {"code"}
        project.run("dvc", "repro", "code")
    assert project.stale() == stages


def test_a_default_that_changes_in_the_code_reruns_the_steps_that_see_it(project: Project) -> None:
    # params.yaml names neither of them.
    project.edit("src/imbnas/params/search.py", "] = 0.1\n", "] = 0.2\n")
    assert project.planned() == {"search", "retrain", "evaluate"}
    project.run("dvc", "repro", "code")
    assert project.stale() == {"search"}
    project.edit("src/imbnas/params/adapt.py", "paths: Rounds = 16", "paths: Rounds = 17")
    assert project.planned() == set(CHAIN)
    project.run("dvc", "repro", "code")
    assert project.stale() == {"adapt", "search"}


def test_dvc_looks_at_code_where_it_runs_the_whole_project(project: Project) -> None:
    with (project.path / "src/imbnas/report/plots.py").open("a") as stream:
        stream.write("# edited\n")
    # One stage by itself is compared with the digest that the stage `code` has written before.
    assert "up to date" in project.run("dvc", "status", "evaluate").output
    assert "didn't change, skipping" in project.run("dvc", "repro", "--single-item", "evaluate").output
    assert set(json.loads(project.run("dvc", "status", "--json", "--with-deps", "evaluate").output)) == {"code"}
    output = project.run("dvc", "repro").output
    assert re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE) == ["code", "evaluate"]
    assert project.stale() == set()
    assert project.planned() == set()


def test_no_result_is_recorded_under_the_digest_of_other_code(project: Project) -> None:
    with (project.path / "src/imbnas/report/plots.py").open("a") as stream:
        stream.write("# edited\n")
    project.set("evaluate.bins", 9)
    before = project.bytes("dvc.lock")
    done = project.run("dvc", "repro", "--single-item", "evaluate", expect=None)
    assert done.code != 0
    assert (
        "error: code.json: not the code of evaluate as it is now, expected it; run `dvc repro evaluate`" in done.output
    )
    assert project.bytes("dvc.lock") == before
    project.run("dvc", "repro", "evaluate")
    assert project.stale() == set()


def test_files_that_dvc_brought_are_accepted_unless_their_code_is_another(project: Project) -> None:
    accept = ("make", f"ENV={Path(sys.executable).parents[1]}", "accept")
    with (project.path / "src/imbnas/cli.py").open("a") as stream:
        stream.write("# edited\n")
    project.shell(*accept)
    with (project.path / "src/imbnas/report/plots.py").open("a") as stream:
        stream.write("# edited\n")
    assert "error: not what dvc.lock says" in project.shell(*accept, expect=2).output


def test_an_environment_that_is_not_the_locked_one_is_noticed(project: Project) -> None:
    lock = (project.path / "requirements.lock").read_text()
    installed = re.search(r"^numpy==([0-9.]+)", lock, re.MULTILINE)
    assert installed
    project.edit("requirements.lock", installed[0], "numpy==1.0")
    done = project.run("dvc", "repro", "--single-item", "imbalance", expect=None)
    assert done.code != 0
    assert f"error: requirements.lock: numpy {installed[1]} is installed, expected 1.0; run `make setup`" in done.output
    # Snakemake may run, and keeps in mind what was installed.
    project.edit("workflow/lib/environment.py", "return version(name)", "return version(name) + '.1'")
    (project.path / "requirements.lock").write_text(lock)
    assert project.planned() == ALL


def test_a_resource_is_no_dependency(project: Project) -> None:
    project.edit("workflow/rules/supernet.smk", 'runtime=minutes("supernet")', "runtime=60")
    assert project.planned() == set()
    assert project.stale() == set()


def test_files_that_are_only_touched_rerun_nothing(project: Project) -> None:
    for file in ["models/supernet.safetensors", "data/target/train/images.npy", "src/imbnas/files.py", "params.yaml"]:
        os.utime(project.path / file)
    assert project.planned() == set()
    assert project.stale() == set()
    # The default profile does it: above the limit a file counts by its date.
    assert project.planned("--max-checksum-file-size", "5000") == {"imbalance", *CHAIN}


@pytest.mark.parametrize("file", ["models/supernet.safetensors", "results/metrics.json"])
def test_a_foreign_output_is_noticed_until_it_is_accepted(project: Project, file: str) -> None:
    path = project.path / file
    times = path.stat()
    path.write_bytes(path.read_bytes() + b" ")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    step = "supernet" if "supernet" in file else "evaluate"
    assert step in project.planned()
    assert step in project.planned()
    project.run("snakemake", "--touch", "--cores", "1")
    assert project.planned() == set()
    assert project.stale()


def test_parameters_are_compared_even_where_snakemake_forgot_them(project: Project) -> None:
    # Snakemake forgives changed parameters of files it has no record of.
    shutil.rmtree(project.path / ".snakemake" / "metadata")
    assert project.planned() == ALL
    project.run("snakemake", "--touch", "--cores", "1")
    assert project.planned() == set()


def test_another_state_of_the_outputs_is_not_taken_for_the_present_one(project: Project) -> None:
    project.set("evaluate.bins", 9)
    project.run("snakemake", "--cores", "2")
    assert project.planned() == set()
    # Back to the recorded state, in which Snakemake remembers another run than the one that lies there; then the
    # parameter of that run again.
    project.shell("git", "checkout", "-q", "params.yaml")
    project.run("dvc", "checkout", "--force")
    assert project.stale() == set()
    project.set("evaluate.bins", 9)
    assert project.planned() == {"evaluate"}


def test_the_same_architecture_is_not_trained_twice(project: Project) -> None:
    before = project.bytes("results/architecture.json"), project.bytes("models/final.safetensors")
    project.set("search.candidates", 7)  # evolution has no use for it
    assert project.planned() == {"search", "retrain", "evaluate"}
    output = project.run("snakemake", "--cores", "2").output
    assert "rank subnets" in output
    assert "train the chosen subnet" not in output
    assert (project.bytes("results/architecture.json"), project.bytes("models/final.safetensors")) == before
    assert project.planned() == set()
    # Another architecture is trained.
    project.edit("results/architecture.json", "{", "{ ")
    project.run("snakemake", "--touch", "--cores", "1", "--", "results/architecture.json")
    assert project.planned() == {"retrain", "evaluate"}


def test_another_adaptation_trains_again_what_inherits_it_and_nothing_else(project: Project) -> None:
    trained = "train the chosen subnet"
    fixed = {"search.method": "fixed", "search.architecture": [1, 2]}
    for name, value in {**fixed, "retrain.epochs": 1, "retrain.references": False}.items():
        project.set(name, value)
    project.run("dvc", "repro")
    before = project.bytes("models/final.safetensors")
    project.set("adapt.head.epochs", 2)
    output = project.run("snakemake", "--cores", "2").output
    assert ("adapt: " in output, trained in output) == (True, False)
    assert project.planned() == set()
    project.set("adapt.head.epochs", 3)
    stages = re.findall(r"^Running stage '(\w+)'", project.run("dvc", "repro").output, re.MULTILINE)
    assert stages == ["adapt", "search"]
    assert project.bytes("models/final.safetensors") == before
    for name, value in {"retrain.init": "handed", "retrain.finetune.epochs": 1}.items():
        project.set(name, value)
    project.run("dvc", "repro")
    before = project.bytes("models/final.safetensors")
    project.set("adapt.head.epochs", 2)
    assert trained in project.run("snakemake", "--cores", "2", "--", "models/final.safetensors").output
    assert project.bytes("models/final.safetensors") != before
    project.set("adapt.head.epochs", 4)
    stages = re.findall(r"^Running stage '(\w+)'", project.run("dvc", "repro").output, re.MULTILINE)
    assert stages == ["adapt", "search", "retrain", "evaluate"]
