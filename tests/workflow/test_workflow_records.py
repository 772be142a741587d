"""Snakemake's own questions: what is damaged or cannot be written never makes it pass over a rule silently."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflow_project import ROOT, Project

from imbnas.errors import UserError
from imbnas.run.output_record import OutputRecord

sys.path.insert(0, str(ROOT / "workflow/lib"))
import guard
import outputs

CHAIN = {"adapt", "search", "retrain", "evaluate"}
DAMAGES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"models/adapted.safetensors": 1}',
    b'{"models/adapted.safetensors": [1]}',
    b'{"models/adapted.safetensors": [1, 2, "3", 4]}',
    b'{"models/adapted.safetensors": "\xff"}',
    b"[" * 100_000,
]
CALLED = """
for rule in workflow.rules:
    called = [item.callable if hasattr(item, "callable") else item for item in [*rule.input, *rule.params]]
    called += [item._evaluator for name, item in rule.resources.items() if name != "tmpdir"]
    for function in filter(callable, called):
        print(rule.name, "guarded" if getattr(function, "imbnas_guarded", False) else "bare")
"""
"""Appended to a Snakefile: names the rule of each function that Snakemake will call, and how it is."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_counts_as_none(tmp_path: Path, damage: bytes) -> None:
    record, output = tmp_path / "step.json", tmp_path / "models/adapted.safetensors"
    output.parent.mkdir()
    output.write_text("made")
    files = [str(output)]
    OutputRecord(record, files).write()
    whole = record.read_bytes()
    for file in (record, record.with_suffix(".times")):
        file.write_bytes(damage.replace(b"models/adapted.safetensors", str(output).encode()))
        outputs.settle(record, files)
        assert record.read_bytes() == whole
    output.write_text("other")
    record.write_bytes(damage)
    outputs.settle(record, files)
    assert record.read_bytes() != whole


@pytest.mark.workflow
@pytest.mark.parametrize("damage", [b"", b'{"models/adapted.saf', b"[]"])
def test_damaged_records_hide_no_rule(project: Project, damage: bytes) -> None:
    files = [file for file in (project.path / ".imbnas/outputs").iterdir() if file.is_file()]
    assert len(files) == 16

    def hurt() -> None:
        for file in files:
            file.write_bytes(damage)

    hurt()
    assert project.planned() == set()
    hurt()
    project.set("adapt.head.epochs", 2)
    assert project.planned() == CHAIN


@pytest.mark.workflow
@pytest.mark.parametrize("place", [".imbnas/outputs", ".imbnas/runs"])
def test_notes_that_cannot_be_written_end_the_controller(project: Project, place: str) -> None:
    shutil.copy(ROOT / "Makefile", project.path)
    shutil.rmtree(project.path / place)
    (project.path / place).write_text("")
    project.set("adapt.head.epochs", 2)
    for command in (["-n"], ["--cores", "1"]):
        done = project.run("snakemake", *command, expect=1)
        lines = [line for line in done.output.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert lines[0].startswith(f"error: {place}")
        assert "expected a directory" in lines[0]
        assert "Nothing to be done" not in done.output
        assert "Traceback" not in done.output
    before = project.bytes("dvc.lock")
    # The environment is there already: only the recipe itself.
    recorded = project.shell("make", "-o", ".venv/.ready", f"BIN={Path(sys.executable).parent}", "record", expect=2)
    assert "error: not up to date, or not runnable" in recorded.output
    assert project.bytes("dvc.lock") == before


@pytest.mark.workflow
def test_records_that_are_made_anew_for_several_targets_hide_no_rule(project: Project) -> None:
    shutil.rmtree(project.path / ".imbnas/outputs")
    project.set("source.seed", 1)
    # Snakemake lists the directory with the first of them.
    assert project.planned("--", "source", "target") == {"source", "target"}


@pytest.mark.workflow
def test_a_full_disk_ends_the_controller(project: Project) -> None:
    with (project.path / "workflow/lib/outputs.py").open("a") as stream:
        stream.write("\n\ndef write_bytes(*_, **__): raise OSError(28, 'No space left on device')\n")
    (project.path / ".imbnas/outputs/adapt.json").write_bytes(b"")
    project.set("adapt.head.epochs", 2)
    done = project.run("snakemake", "-n", expect=1)
    lines = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "No space left on device" in lines[0]
    assert "Nothing to be done" not in done.output


@pytest.mark.workflow
def test_every_function_that_snakemake_calls_is_guarded(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    with (project.path / "Snakefile").open("a") as stream:
        stream.write(CALLED)
    lines = [line.split() for line in project.run("snakemake", "--list-rules").output.splitlines()]
    found = [line for line in lines if line[1:] in (["guarded"], ["bare"])]
    assert [rule for rule, state in found if state == "bare"] == []
    steps = {"source", "target", "imbalance", "supernet", *CHAIN}
    assert {rule for rule, _ in found} == steps | {f"study_{step}" for step in steps} | {"study"}
    assert len(found) > 80


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("file", "step"),
    [
        ("models/final.safetensors", "retrain"),
        ("models/references.safetensors", "retrain"),
        ("results/architecture.json", "search"),
        ("results/search.parquet", "search"),
        ("results/imbalance.json", "imbalance"),
        ("results/predictions.parquet", "evaluate"),
    ],
)
def test_a_product_that_was_deleted_is_made_again(project: Project, file: str, step: str) -> None:
    (project.path / file).unlink()
    assert step in project.planned()


def _raise(error: Exception) -> Callable[..., Any]:
    def function(wildcards: Any, attempt: int = 1) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a.json: found 1, expected 2"), "error: a.json: found 1, expected 2"),
        (OSError(30, "Read-only file system", "a.json"), "error: a.json: Read-only file system, expected a place"),
        (
            OSError(28, "No space left on device"),
            "error: a file that is being written: No space left on device, expected",
        ),
        (OSError(5, "Input/output error"), "error: Input/output error: while the workflow was planned"),
        (KeyError("two\nlines"), "error: KeyError: 'two\\nlines' ("),
    ],
)
def test_no_exception_leaves_a_guarded_function(error: Exception, line: str) -> None:
    function = _raise(error)
    guarded = guard.guarded(function)
    # Snakemake hands over what the names of the arguments ask for.
    assert inspect.signature(guarded) == inspect.signature(function)
    with pytest.raises(SystemExit) as stop:
        guarded(None, attempt=2)
    assert isinstance(stop.value.code, str)
    assert stop.value.code.startswith(line)
    assert "\n" not in stop.value.code
    assert guard.guarded(lambda wildcards: wildcards)(3) == 3
