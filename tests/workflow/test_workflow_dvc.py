"""DVC around Snakemake: what it records, restores and runs, in the workspace, in a clone and in a copy of its own."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from workflow_project import NARROWED, Project

pytestmark = pytest.mark.workflow

STAGES = ["source", "target", "imbalance", "supernet", "adapt", "search", "retrain", "evaluate"]


def table(project: Project, *options: str) -> list[str]:
    """Return the lines of the table of experiments."""
    return project.run("dvc", "exp", "show", *options).output.splitlines()


def test_repro_has_nothing_to_do_after_snakemake(project: Project) -> None:
    before = project.bytes("dvc.lock")
    output = project.run("dvc", "repro").output
    assert output.count("didn't change, skipping") == len(STAGES)
    assert project.bytes("dvc.lock") == before
    assert project.shell("git", "status", "--porcelain").output == ""


def test_running_all_again_by_dvc_makes_the_same_bytes(project: Project) -> None:
    before = project.bytes("dvc.lock"), project.bytes("results/metrics.json")
    output = project.run("dvc", "repro", "--force").output
    assert output.count("Running stage") == len(STAGES)
    assert (project.bytes("dvc.lock"), project.bytes("results/metrics.json")) == before
    assert project.planned() == set()


def test_a_clone_takes_its_outputs_from_the_cache(finished: Project, tmp_path: Path) -> None:
    finished.shell("git", "clone", "-q", str(finished.path), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", finished.env, finished.server)
    clone.run("dvc", "cache", "dir", "--local", str(finished.path / ".dvc/cache"))
    assert set(clone.stale()) == set(STAGES)
    # A look at what would run leaves nothing behind that passes for a memory of what the checkout brings.
    assert clone.planned() == set(STAGES)
    clone.run("dvc", "checkout")
    assert clone.stale() == set()
    assert clone.run("dvc", "repro").output.count("didn't change, skipping") == len(STAGES)
    # Snakemake has not made these files and says so, whatever their dates, until it is told to accept them.
    assert clone.planned() == set(STAGES)
    clone.run("snakemake", "--touch", "--cores", "1")
    assert clone.planned() == set()
    assert clone.stale() == set()
    clone.set("evaluate.bins", 9)
    assert clone.planned() == {"evaluate"}


def test_an_experiment_elsewhere(project: Project) -> None:
    """`--temp`, as `--queue`, runs in a copy: with that copy's code, although another tree's package is installed."""
    project.edit("src/imbnas/steps/evaluate.py", '"seed": view.seed,', '"seed": view.seed, "mark": "copy",')
    project.commit("mark")
    names = ["models/supernet.safetensors", "models/adapted.safetensors", "results/details.json"]
    before = [project.bytes(name) for name in names]
    output = project.run("dvc", "exp", "run", "--temp", "--name", "tuned", "-S", "adapt.strategy=finetune").output
    for stage in ("source", "target", "imbalance", "supernet"):
        assert f"Running stage '{stage}'" not in output
    for stage in ("adapt", "search", "evaluate"):
        assert f"Running stage '{stage}'" in output
    assert [project.bytes(name) for name in names] == before

    rows = {row["Experiment"]: row for row in csv.DictReader(table(project, "--csv"))}
    assert rows["tuned"]["adapt.strategy"] == "finetune"
    assert 0 <= float(rows["tuned"]["balanced_accuracy"]) <= 1
    assert float(rows["tuned"]["seconds"]) > 0
    header, _, *lines = table(project, "--md", *NARROWED)
    assert "balanced_accuracy" in header
    assert "adapt.strategy" in header
    assert len(header.split("|")) < 15
    assert any("[tuned]" in line and "finetune" in line for line in lines)

    project.run("dvc", "exp", "apply", "tuned")
    supernet, adapted, details = (project.bytes(name) for name in names)
    assert supernet == before[0]
    assert adapted != before[1]
    assert b'"mark": "copy"' in details
    assert project.stale() == set()
    # Snakemake finds other files than its last jobs wrote, and parameters that it has not seen.
    assert project.planned() == {"adapt", "search", "retrain", "evaluate"}
    project.run("snakemake", "--touch", "--cores", "1")
    assert project.planned() == set()


def test_small_numbers_survive_dvc(project: Project) -> None:
    # DVC writes 1e-05, which YAML 1.1 takes for text.
    project.run("dvc", "exp", "run", "-S", "retrain.optimizer.weight_decay=0.00001", "source")
    assert "1e-05" in (project.path / "params.yaml").read_text()
    assert project.planned() == {"retrain", "evaluate"}


@pytest.fixture
def birds(fresh: Project, tmp_path: Path) -> Project:
    """Return a project whose target is a directory of images, materialised and recorded."""
    project = fresh.copy(tmp_path / "birds-project")
    for number in range(2 * 8):
        image = project.path / f"datasets/birds/{'jay' if number % 2 else 'owl'}/{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (number, 7 * number, 90)).save(image)
    for name, value in {"dataset": "folder", "root": "datasets/birds", "image_size": 8, "channels": 1}.items():
        project.set(f"target.{name}", value)
    project.set("target.validation.per_class", 1)
    project.set("imbalance.ratio", 2.0)
    project.run("snakemake", "--cores", "2", "--", "data/longtail.parquet")
    project.run("dvc", "commit", "-f", "target")
    project.run("dvc", "commit", "-f", "imbalance")
    return project


def test_a_new_image_makes_the_target_stale(birds: Project) -> None:
    wanted = ("--", "data/longtail.parquet")
    assert birds.planned(*wanted) == set()
    assert birds.stale() & {"target", "imbalance"} == set()
    shutil.copy(birds.path / "datasets/birds/jay/1.png", birds.path / "datasets/birds/jay/100.png")
    assert birds.planned(*wanted) == {"target", "imbalance"}
    assert birds.stale() >= {"target"}
    birds.run("snakemake", "--cores", "2", *wanted)
    assert birds.planned(*wanted) == set()
    # Another picture of the same size in bytes.
    path = birds.path / "datasets/birds/owl/0.png"
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert birds.planned(*wanted) == {"target", "imbalance"}
    assert birds.stale() >= {"target"}


def test_a_file_of_class_counts_is_a_dependency(birds: Project) -> None:
    counts = birds.path / "datasets/birds/counts.txt"
    counts.write_text("4\n2\n")
    birds.set("imbalance.profile", "counts")
    birds.set("imbalance.counts", "counts.txt")
    wanted = ("--", "data/longtail.parquet")
    birds.run("snakemake", "--cores", "2", *wanted)
    birds.run("dvc", "commit", "-f", "imbalance")
    assert birds.planned(*wanted) == set()
    counts.write_text("4\n3\n")
    assert "imbalance" in birds.planned(*wanted)
    assert "imbalance" in birds.stale()
