"""The user's own images: a touch, a copy and a foreign file plan nothing; a change, an addition, a removal do."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from workflow_project import ROOT, Project

sys.path.insert(0, str(ROOT / "workflow/lib"))
import outputs
import raw_changes

from imbnas.data import fingerprints
from imbnas.params.config import parse
from imbnas.run.output_record import OutputRecord

pytestmark = pytest.mark.workflow

TARGETS = ("source", "imbalance")
SECTION: dict[str, Any] = {"dataset": "folder", "root": "datasets/photos"}


def paint(file: Path, value: int) -> None:
    """Write a small image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, compress_level=0)


def planned(project: Project, *options: str) -> set[str]:
    """Return the steps that would run to make the splits and the long tail."""
    return project.planned(*options, "--", *TARGETS)


@pytest.fixture(scope="module")
def photos(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project on a folder of images, whose splits have been made from it."""
    project = fresh.copy(tmp_path_factory.mktemp("photos") / "project")
    for k in range(60):
        paint(project.path / f"datasets/photos/{'abc'[k % 3]}/{k}.png", k)
    tree = yaml.safe_load((project.path / "params.yaml").read_text())
    tree["source"] = {**SECTION, "share": 0.4, "validation": {"per_class": 2}}
    tree["target"] = {**SECTION, "image_size": 12, "validation": {"per_class": 2}, "test_fraction": 0.2}
    tree["imbalance"] = {"profile": "exponential", "ratio": 2.0}
    (project.path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    project.run("snakemake", "--cores", "2", "--", *TARGETS)
    assert planned(project) == set()
    return project


@pytest.fixture
def own(photos: Project, tmp_path: Path) -> Project:
    """Return a copy of that, to be changed; times are kept."""
    return photos.copy(tmp_path / "project")


def test_touched_files_and_foreign_ones_plan_nothing(own: Project) -> None:
    root = own.path / "datasets/photos"
    for file in root.rglob("*.png"):
        os.utime(file)
    for name in (".DS_Store", "README", "a/.DS_Store", "a/README.txt"):
        (root / name).write_text("foreign")
    output = own.run("snakemake", "-n", "--", *TARGETS).output
    assert "datasets/photos: 60 files have other dates than when they were read, comparing their contents" in output
    assert "Nothing to be done" in output
    # They are read once.
    output = own.run("snakemake", "-n", "--", *TARGETS).output
    assert "other dates" not in output
    assert "Nothing to be done" in output


def test_a_copy_of_the_project_is_up_to_date(own: Project, tmp_path: Path) -> None:
    own.shell("cp", "-r", ".", str(tmp_path / "copy"))
    assert planned(Project(tmp_path / "copy", own.env, own.server)) == set()


def test_a_change_plans_what_reads_it_until_it_is_taken_back(own: Project) -> None:
    root = own.path / "datasets/photos"
    everything = {"source", "target", "imbalance"}
    # A dry run before the change notes nothing that a later one could miss.
    for edit, undo in (
        (lambda: paint(root / "a/0.png", 99), lambda: paint(root / "a/0.png", 0)),
        (lambda: paint(root / "a/x.png", 99), lambda: (root / "a/x.png").unlink()),
        (lambda: (root / "a/0.png").unlink(), lambda: paint(root / "a/0.png", 0)),
        (lambda: (root / "a").rename(root / "d"), lambda: (root / "d").rename(root / "a")),
        (lambda: root.rename(root.with_name("away")), lambda: root.with_name("away").rename(root)),
    ):
        edit()
        assert planned(own) == everything
        assert planned(own) == everything
        undo()
        assert planned(own) == set()


def test_another_image_of_the_same_size_is_a_change(own: Project) -> None:
    file = own.path / "datasets/photos/a/0.png"
    size = file.stat().st_size
    paint(file, 7777)
    assert file.stat().st_size == size
    assert planned(own) == {"source", "target", "imbalance"}
    own.run("snakemake", "--cores", "2", "--", *TARGETS)
    assert planned(own) == set()


def test_what_was_never_read_is_not_read_to_plan(own: Project) -> None:
    shutil.rmtree(own.path / ".imbnas")
    shutil.rmtree(own.path / "data")
    # Reading it would name it.
    (own.path / "datasets/photos/a/0.png").unlink()
    os.mkfifo(own.path / "datasets/photos/a/0.png")
    output = own.run("snakemake", "-n", "--", *TARGETS).output
    assert "other dates" not in output
    assert not (own.path / ".imbnas/raw").exists()
    assert planned(own) == {"source", "target", "imbalance"}


def test_damaged_notes_are_made_up_for(own: Project) -> None:
    raw = own.path / ".imbnas/raw"
    for file in raw.rglob("*.json"):
        file.write_bytes(b'{"listing":')
    assert planned(own) == set()
    # The record of the outputs still says what they were made of.
    paint(own.path / "datasets/photos/b/1.png", 500)
    assert planned(own) == {"source", "target", "imbalance"}
    for file in (own.path / ".imbnas/outputs").glob("*.json"):
        file.write_bytes(b"")
    assert planned(own) == {"source", "target", "imbalance"}


def test_accepted_files_are_watched_from_then_on(own: Project) -> None:
    shutil.rmtree(own.path / ".imbnas")
    shutil.rmtree(own.path / ".snakemake")
    # As in a clone to which `dvc pull` has brought data and outputs.
    assert planned(own) == {"source", "target", "imbalance"}
    own.run("snakemake", "--touch", "--cores", "1", "--", *TARGETS)
    assert planned(own) == set()
    os.utime(own.path / "datasets/photos/c/2.png")
    assert planned(own) == set()
    paint(own.path / "datasets/photos/c/2.png", 300)
    assert planned(own) == {"source", "target", "imbalance"}
    own.run("snakemake", "--touch", "--cores", "1", "--", *TARGETS)
    assert planned(own) == set()


def test_a_step_run_by_hand_on_other_images_is_noticed(own: Project) -> None:
    paint(own.path / "datasets/photos/a/0.png", 99)
    own.shell(str(Path(sys.executable).with_name("imbnas")), "target")
    assert planned(own) == {"source", "target", "imbalance"}


def test_cells_of_a_study_look_at_their_images_once(own: Project) -> None:
    own.set("study.axes", {"target.seed": [0, 1]})
    jobs = [f"study/target/{digest}/train/info.json" for digest in _digests(own)]
    assert len(jobs) == 2
    own.run("snakemake", "--cores", "2", "--", *jobs)
    assert own.planned("--", *jobs) == set()
    for file in (own.path / "datasets/photos").rglob("*.png"):
        os.utime(file)
    output = own.run("snakemake", "-n", "--", *jobs).output
    assert output.count("60 files have other dates") == 1
    assert "Nothing to be done" in output
    paint(own.path / "datasets/photos/a/0.png", 99)
    assert own.planned("--", *jobs) == {"study_source", "study_target"}


def _digests(project: Project) -> list[str]:
    project.run("snakemake", "-n", "--", "study")
    plans = (project.path / ".imbnas/runs").glob("*/study.json")
    cells = json.loads(max(plans, key=lambda plan: plan.stat().st_mtime_ns).read_text())
    return sorted({cell["target"] for cell in cells})


def test_other_groups_are_another_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for k in range(4):
        paint(tmp_path / f"photos/{'ab'[k % 2]}/{k}.png", k)
    table = tmp_path / "photos/groups.csv"
    table.write_text("path,group\na/0.png,x\na/2.png,y\nb/1.png,z\nb/3.png,z\n")
    section = {"dataset": "folder", "root": "photos", "groups": "groups.csv"}
    params = parse({"source": section, "target": {**section, "image_size": 8}}, "params.yaml")
    output = tmp_path / "data/target/train"

    def look(accept: bool, record: str | None) -> str | None:
        read = raw_changes.RawFiles().of("target", params, accept)
        assert read is not None
        return read(output, record)

    made = look(True, None)
    assert made is not None
    assert look(False, made) == made
    text = table.read_text()
    table.write_text(text.replace("a/2.png,y", "a/2.png,x"))
    assert look(False, made) == raw_changes.CHANGED
    table.write_text(text)
    assert look(False, made) == made


def test_a_record_says_what_became_of_raw_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record, output = Path("records/target.json"), Path("data/target/train/info.json")
    output.parent.mkdir(parents=True)
    output.write_text("made")
    files = [str(output)]
    fingerprints.note(
        Path(), output.parent, fingerprints.Reading(Path("x"), ["f"], "1"), fingerprints.Contents([1], [1], ["d"])
    )
    OutputRecord(record, files).write()
    made = json.loads(record.read_text())[outputs.RAW]
    asked: list[tuple[Path, str | None]] = []

    def raw(answer: str) -> Any:
        return lambda place, known: (asked.append((place, known)), answer)[1]

    outputs.settle(record, files, raw(made))
    assert asked == [(output.parent, made)]
    whole = record.read_bytes()
    outputs.settle(record, files, raw("changed"))
    assert record.read_bytes() != whole
    outputs.settle(record, files, raw(made))
    assert record.read_bytes() == whole
    # Outputs that are missing are made anyway: nothing is looked at.
    output.unlink()
    outputs.settle(record, files, raw("changed"))
    assert len(asked) == 3
