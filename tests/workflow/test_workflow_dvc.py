"""DVC around Snakemake: what it records, restores and runs, in the workspace, in a clone and in a copy of its own."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from PIL import Image
from workflow_project import NARROWED, ROOT, Project

from imbnas.params.config import load
from imbnas.run.graph import STEPS

pytestmark = pytest.mark.workflow

STAGES = ["code", *STEPS]


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
    assert clone.planned() == set(STEPS)
    clone.run("dvc", "checkout")
    assert clone.stale() == set()
    assert clone.run("dvc", "repro").output.count("didn't change, skipping") == len(STAGES)
    # Snakemake has not made these files and says so, whatever their dates, until it is told to accept them.
    assert clone.planned() == set(STEPS)
    clone.run("snakemake", "--touch", "--cores", "1")
    assert clone.planned() == set()
    assert clone.stale() == set()
    clone.set("evaluate.bins", 9)
    assert clone.planned() == {"evaluate"}


def test_an_experiment_elsewhere(project: Project) -> None:
    """`--temp`, as `--queue`, runs in a copy: with that copy's code, although another tree's package is installed."""
    project.edit("src/imbnas/steps/evaluate_details.py", '"seed": view.seed,', '"seed": view.seed, "mark": "copy",')
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


def test_plots_show_the_losses_of_each_network(project: Project) -> None:
    project.run("dvc", "plots", "show", "--out", "shown")
    page = (project.path / "shown/index.html").read_text()
    for network in ("chosen", "random-1", "largest"):
        assert f'"network": "{network}", "epoch": "2", "loss": ' in page
    assert '"strokeDash": {"field": "network"' in page


def test_small_numbers_survive_dvc(project: Project) -> None:
    # DVC writes 1e-05, which YAML 1.1 takes for text.
    project.run("dvc", "exp", "run", "-S", "retrain.optimizer.weight_decay=0.00001", "source")
    assert "1e-05" in (project.path / "params.yaml").read_text()
    assert project.planned() == {"retrain", "evaluate"}


def test_a_foreign_file_beside_the_data_trains_nothing(project: Project) -> None:
    # Raw data are a dependency as a whole directory. What follows depends on what was read of it.
    (project.path / "datasets/digits/.DS_Store").write_text("x")
    assert project.stale() == set()
    (project.path / "datasets/digits/README").write_text("x")
    assert project.stale() == {"source", "target", "imbalance"}
    before = project.bytes("models/final.safetensors")
    output = project.run("dvc", "repro").output
    assert re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE) == ["source", "target", "imbalance"]
    assert re.findall(r"^Stage '(\w+)' didn't change, skipping", output, re.MULTILINE) == ["code", *STAGES[4:]]
    assert project.bytes("models/final.safetensors") == before
    assert project.stale() == set()


def test_recording_covers_the_raw_data_or_says_that_it_does_not(project: Project) -> None:
    record = [sys.executable, "workflow/lib/record.py"]
    assert "note: " not in project.shell(*record).output  # git has datasets/digits
    project.set("target.root", "datasets/my birds")
    image = project.path / "datasets/my birds/1.png"
    image.parent.mkdir()
    image.write_text("an image")
    lines = [line for line in project.shell(*record).output.splitlines() if "note: " in line]
    assert len(lines) == 1
    assert lines[0].startswith("note: datasets/my birds: DVC keeps no version of these files: ")
    assert lines[0].endswith("`dvc exp run --temp` and `--queue` fail on them, expected `dvc add datasets/my birds`")
    project.run("dvc", "add", "datasets/my birds")
    before = project.bytes("datasets/my birds.dvc")
    image.write_text("another image")
    assert "note: " not in project.shell(*record).output
    # What was trained on is what is pushed.
    assert project.bytes("datasets/my birds.dvc") != before
    assert "up to date" in project.run("dvc", "status").output


@pytest.fixture
def watched(fresh: Project, tmp_path: Path) -> Project:
    """Return a project with one stage of no moment, which depends on datasets/birds."""
    project = fresh.copy(tmp_path / "watched")
    (project.path / "dvc.yaml").write_text("stages:\n  look:\n    cmd: 'true'\n    deps: [datasets/birds]\n")
    for name in ("jay/1.png", "owl/1.png", "logs/1.png"):
        image = tmp_path / "birds" / name
        image.parent.mkdir(parents=True)
        image.write_text(name)
    return project


@pytest.mark.parametrize("link", [["ln", "-s"], ["cp", "-rs"], ["cp", "-r"]])
def test_dvc_watches_what_the_reader_reads(watched: Project, tmp_path: Path, link: list[str]) -> None:
    root = watched.path / "datasets/birds"
    watched.shell(*link, str(tmp_path / "birds"), str(root))
    watched.run("dvc", "repro")
    assert watched.stale() == set()
    for name in ("jay/1.png", "logs/1.png"):
        (root / name).write_text("other")
        assert watched.stale() == {"look"}, name
        watched.run("dvc", "repro")
        assert watched.stale() == set()
    for name in ("jay/.2.png.77.part", ".DS_Store", "owl/Thumbs.db", "@eaDir/1.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x")
    assert watched.stale() == set()


def test_dvc_takes_no_directory_of_the_project_for_ignored(fresh: Project) -> None:
    # It passes over the .dvc files of a directory that it takes for ignored, and tells nobody.
    files = fresh.shell("git", "ls-files").output.splitlines()
    folders = {parent for file in [*files, "datasets/birds.dvc"] for parent in Path(file).parents} - {Path()}
    git = Repo(fresh.path).scm
    ignored = {folder for folder in folders if git.is_ignored(f"{fresh.path / folder}/")}
    assert ignored == set()
    assert not git.is_ignored(str(fresh.path / "datasets/birds.dvc"))
    assert git.is_ignored(str(fresh.path / "datasets/birds/jay/1.png"))


def test_an_experiment_changes_one_line_of_the_shipped_file(project: Project) -> None:
    file = project.path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", file)
    for name in ("user.name", "user.email"):  # DVC stashes what is not committed
        project.shell("git", "config", name, "nobody@example.org")
    before = file.read_text().splitlines()
    project.run("dvc", "exp", "run", "-S", "imbalance.ratio=50.0", "-S", "search.max_macs=5000000", "source")
    after = file.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new.split("#")[0].split() for _, new in changed] == [["ratio:", "50.0"], ["max_macs:", "5000000"]]
    assert [old.split("#")[1] for old, _ in changed] == [new.split("#")[1] for _, new in changed]
    # What the file leaves to its default is added, and nothing else changes.
    project.run("dvc", "exp", "run", "-S", "++retrain.mixing.name=mixup", "source")
    lines = file.read_text().splitlines()
    assert [line for line in after if line not in lines] == []
    assert [line for line in lines if line not in after] == ["  mixing:", "    name: mixup"]
    assert load(file).retrain.mixing.name == "mixup"


@pytest.fixture(scope="module")
def materialised(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project whose target is a directory of images, materialised and recorded."""
    project = fresh.copy(tmp_path_factory.mktemp("birds") / "project")
    for number in range(2 * 8):
        image = project.path / f"datasets/birds/{'jay' if number % 2 else 'owl'}/{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (number, 7 * number, 90)).save(image)
    for name, value in {"dataset": "folder", "root": "datasets/birds", "image_size": 8, "channels": 1}.items():
        project.set(f"target.{name}", value)
    project.set("target.validation.per_class", 1)
    project.set("imbalance.ratio", 2.0)
    project.set("supernet.epochs", 0)  # its source is digits, from which nothing is learned for photographs
    project.run("snakemake", "--cores", "2", "--", "data/longtail.parquet")
    project.run("dvc", "repro", "code")
    project.run("dvc", "commit", "-f", "source", "target", "imbalance")
    return project


@pytest.fixture
def birds(materialised: Project, tmp_path: Path) -> Project:
    """Return a copy of that, to be changed."""
    return materialised.copy(tmp_path / "birds-project")


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


def test_own_data_that_dvc_tracks_are_lost_nowhere(birds: Project, tmp_path: Path) -> None:
    images = {
        path.relative_to(birds.path): path.read_bytes() for path in (birds.path / "datasets/birds").rglob("*.png")
    }
    assert len(images) == 16
    birds.commit("untracked")
    stages = ("code", "source", "target", "imbalance")
    run = ("dvc", "exp", "run", "--temp", "-S", "imbalance.ratio=3.0", "imbalance")
    # Without them a copy of the project has none. DVC says so before any command of a stage runs.
    refused = [line for line in birds.run(*run, expect=255).output.splitlines() if line.startswith("ERROR")]
    assert all("No such file or directory" in line and "datasets/birds" in line for line in refused)
    assert refused

    birds.run("dvc", "add", "datasets/birds")
    birds.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    birds.commit("tracked")
    birds.run("dvc", "push", "datasets/birds.dvc", *stages)
    birds.shell("git", "clone", "-q", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", birds.env, birds.server)
    clone.run("dvc", "pull", "datasets/birds.dvc", *stages)
    assert {path: clone.bytes(str(path)) for path in images} == images
    assert clone.stale() & {*stages} == set()

    output = birds.run(*run).output
    assert "Running stage 'imbalance'" in output
    assert "Running stage 'target'" not in output
    birds.run("dvc", "gc", "-w", "-f")
    shutil.rmtree(birds.path / "datasets/birds")
    birds.run("dvc", "checkout", "datasets/birds.dvc")
    assert {path: birds.bytes(str(path)) for path in images} == images
