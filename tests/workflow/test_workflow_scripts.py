"""The scripts behind the Snakefile, by themselves."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflow_project import ROOT

from imbnas.data.latency_file import space_digest, write_latencies
from imbnas.errors import UserError
from imbnas.params import presets
from imbnas.run.output_record import OutputRecord

sys.path.insert(0, str(ROOT / "workflow/lib"))
import controller
import identity
import outputs


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a directory of files in two levels."""
    for name in ("owl/1.png", "owl/2.png", "jay/1.png", "train.txt"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "images"


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "jay/2.png").write_text("new"),
        lambda root: (root / "owl/1.png").unlink(),
        lambda root: (root / "owl/1.png").rename(root / "owl/3.png"),
        lambda root: (root / "owl/1.png").rename(root / "jay/3.png"),
        lambda root: (root / "train.txt").write_text("longer than before"),
        lambda root: os.utime(root / "train.txt", ns=(0, 0)),
    ],
)
def test_a_fingerprint_sees_every_change(images: Path, change: Callable[[Path], None]) -> None:
    before = identity.fingerprint(images)
    assert identity.fingerprint(images) == before
    change(images)
    assert identity.fingerprint(images) != before


def test_a_fingerprint_of_one_file_sees_its_change(images: Path) -> None:
    before = identity.fingerprint(images / "train.txt")
    (images / "train.txt").write_text("longer than before")
    assert identity.fingerprint(images / "train.txt") != before


def test_a_fingerprint_follows_links_and_ends(images: Path, tmp_path: Path) -> None:
    plain = identity.fingerprint(images)
    # As in a directory of links to the real images: what they point to counts, under the link's name.
    linked = tmp_path / "linked"
    linked.symlink_to(images)
    assert identity.fingerprint(linked) == plain
    (images / "loop").symlink_to(images)
    (images / "gone.png").symlink_to(images / "nothing")
    assert identity.fingerprint(images) == plain
    assert identity.fingerprint(tmp_path / "nothing") == identity.fingerprint(tmp_path / "nothing")
    assert identity.fingerprint(tmp_path / "nothing") != plain


def test_raw_files_that_cannot_be_listed_are_named(images: Path, permissions_count: None) -> None:
    (images / "owl").chmod(0)
    with pytest.raises(UserError, match=rf"^{images}/owl: Permission denied, expected permission to use it$"):
        identity.fingerprint(images)
    (images / "owl").chmod(0o700)
    (images / "jay/x.png").symlink_to("x.png")
    with pytest.raises(UserError, match=rf"^{images}/jay/x\.png: Too many levels of symbolic links, expected a link"):
        identity.fingerprint(images)


@pytest.mark.parametrize(
    ("dataset", "download", "watched"),
    [
        ("folder", False, True),
        ("list", False, True),
        ("npz", False, True),
        ("mnist", False, True),  # torchvision does not check what lies there
        ("mnist", True, False),  # the step's own download is no change
        ("cifar10", False, False),  # torchvision compares checksums
        ("digits", False, False),
    ],
)
def test_which_raw_files_are_watched(
    images: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, download: bool, watched: bool
) -> None:
    tree: dict[str, Any] = {"target": {"dataset": dataset, "root": str(images), "download": download}}
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert identity.watched("target", tree) == []
    # DVC takes the digest of a directory when the stage ends.
    monkeypatch.setenv("DVC_STAGE", "target")
    lines = identity.watched("target", tree)
    assert lines == ([f"files below {images}: {identity.fingerprint(images)}"] if watched else [])
    assert identity.watched("supernet", tree) == []


def test_a_table_of_scores_that_is_absent_is_told_before_anything_runs(tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"
    tree: dict[str, Any] = {"search": {"table": str(table)}, "approximate": {"multiplier": None}}
    with pytest.raises(UserError, match=r"^search\.table: .*scores\.csv: No such file or directory, expected a file$"):
        identity.user_files("search", tree)
    table.mkdir()
    with pytest.raises(UserError, match=r"^search\.table: .*Is a directory"):
        identity.user_files("search", tree)
    table.rmdir()
    table.write_text("architecture,validation\n")
    assert identity.user_files("search", tree)[0].startswith(str(table))


def test_a_file_of_class_counts_is_compared_by_content(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "target": {"root": str(tmp_path)},
        "imbalance": {"profile": "counts", "counts": "counts.txt"},
    }
    (tmp_path / "counts.txt").write_text("1\n2\n")
    before = identity.user_files("imbalance", tree)
    (tmp_path / "counts.txt").touch()
    assert identity.user_files("imbalance", tree) == before
    (tmp_path / "counts.txt").write_text("2\n1\n")
    assert identity.user_files("imbalance", tree) != before
    assert identity.user_files("target", tree) == []


def test_a_table_of_scores_is_part_of_what_decides_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    tree = presets.params("digits").tree()
    assert identity.user_files("search", tree) == []
    tree["search"]["table"] = "tables/t.csv"
    (tmp_path / "tables/t.csv").write_text("architecture,validation\n")
    empty = identity.user_files("search", tree)
    (tmp_path / "tables/t.csv").write_text("architecture,validation\n0-0,0.5\n")
    lines = {empty[0], *identity.user_files("search", tree)}
    assert len(lines) == 2
    assert all(line.startswith("tables/t.csv: ") for line in lines)
    assert identity.user_files("retrain", tree) == []


def test_a_table_of_latencies_is_part_of_what_decides_a_search_and_is_checked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = presets.params("digits")
    tree, file = params.tree(), tmp_path / "tables/latency.csv"
    tree["search"]["latency"] = "tables/latency.csv"
    with pytest.raises(UserError, match=r"^search\.latency: tables/latency\.csv: not found"):
        identity.user_files("search", tree)
    setting = {"space": params.space.name, "space_digest": space_digest(params.space), "classes": 10, "batch": 1}
    setting |= dict(zip(("height", "width", "channels"), params.target.shape, strict=True))
    setting |= {"device": "cpu", "precision": "fp32", "threads": 1, "label": "", "spread_ns": 0}
    places = [("block", b, c) for b, count in enumerate(params.space.choices, 1) for c in range(count)]
    rows = [
        {"part": part, "block": block, "choice": choice, "latency_ns": 1000, **setting}
        for part, block, choice in [("stem", None, None), ("classifier", None, None), *places]
    ]
    write_latencies(file, rows)
    before = identity.user_files("search", tree)
    assert [line.partition(":")[0] for line in before] == ["tables/latency.csv"]
    os.utime(file, (1, 1))
    assert identity.user_files("search", tree) == before, "touched but unchanged"
    write_latencies(file, [{**row, "latency_ns": 1001} for row in rows])
    assert identity.user_files("search", tree) != before
    assert identity.user_files("retrain", tree) == []
    tree["space"]["stem"]["channels"] *= 2
    with pytest.raises(UserError, match=r"^search\.latency: tables/latency\.csv: is of the space"):
        identity.user_files("search", tree)


def test_settings_have_the_types_that_yaml_gives(tmp_path: Path) -> None:
    # Below the first level Snakemake's --config gives text.
    settings = {"a": {"n": "3", "x": "1.5", "none": "null", "yes": "true", "word": "head", "list": ["1", "b"]}, "b": 2}
    typed = {"a": {"n": 3, "x": 1.5, "none": None, "yes": True, "word": "head", "list": [1, "b"]}, "b": 2}
    assert identity._typed(settings) == typed


def test_a_record_is_newer_than_outputs_that_were_linked_anew(tmp_path: Path) -> None:
    record, output = tmp_path / "records/step.json", tmp_path / "out"
    output.write_text("made")
    files = [str(output)]
    OutputRecord(record, files).write()
    content, written = record.read_bytes(), record.stat().st_mtime_ns
    assert outputs.settle(record, files) == str(record)
    assert (record.read_bytes(), record.stat().st_mtime_ns) == (content, written)
    for later in (5, 10**12):  # the second is ahead of the clock
        os.utime(output, ns=(written + later, written + later))
        outputs.settle(record, files)
        assert record.read_bytes() == content
        assert record.stat().st_mtime > output.stat().st_mtime
    output.write_text("other")
    outputs.settle(record, files)
    assert record.read_bytes() != content
    output.unlink()
    changed = record.read_bytes()
    outputs.settle(record, files)
    assert record.read_bytes() == changed


def test_an_empty_record_does_not_cover_what_comes_later(tmp_path: Path) -> None:
    early, late, output = tmp_path / "early.json", tmp_path / "late.json", tmp_path / "out"
    outputs.settle(early, [str(output)])
    assert early.read_text() == "{}"
    output.write_text("brought")
    for record in (early, late):
        outputs.settle(record, [str(output)])
        assert record.stat().st_mtime_ns > output.stat().st_mtime_ns
    assert early.read_bytes() == late.read_bytes() != b"{}"


@pytest.mark.parametrize("file", ["Snakefile", "workflow/rules/jobs.smk", "workflow/lib/sizes.py"])
def test_a_job_refuses_rules_that_were_edited_after_its_run_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(controller.HANDOVER, "")
    shutil.copy(ROOT / "Snakefile", tmp_path)
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    run = controller.start_run(tmp_path, identity.Sources(ROOT / "params.yaml"))
    assert controller.load_run(tmp_path, os.environ).params == run.params
    with (tmp_path / file).open("a") as stream:
        stream.write("# edited\n")
    with pytest.raises(UserError, match="changed since the run began"):
        controller.load_run(tmp_path, os.environ)
