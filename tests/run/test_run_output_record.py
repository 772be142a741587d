"""The record that a step writes of its outputs: after all of them, and only where it has ended well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imbnas.cli import app
from imbnas.errors import Interrupted, UserError
from imbnas.files import digest_file
from imbnas.params import presets
from imbnas.run import launch
from imbnas.run.context import Context
from imbnas.run.output_record import OutputRecord
from imbnas.run.runner import run_step

FILES = [f"data/source/{part}/{file}" for part in ("train", "validation") for file in ("images.npy", "info.json")]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OutputRecord:
    """Return a record of the step `source` in an empty project, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return OutputRecord(Path(".imbnas/outputs/source.json"), FILES)


def test_a_step_records_the_files_that_it_has_written(record: OutputRecord) -> None:
    assert run_step("source", presets.params("digits"), Path(), record=record) == 0
    assert json.loads(record.file.read_text()) == {file: digest_file(Path(file)) for file in FILES}
    assert record.file.stat().st_mtime_ns > max(Path(file).stat().st_mtime_ns for file in FILES)


def test_a_step_that_is_stopped_after_its_outputs_records_nothing(
    record: OutputRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(context: Context) -> None:
        raise Interrupted("asked to stop")

    monkeypatch.setattr(Context, "publish_cost", stop)
    assert run_step("source", presets.params("digits"), Path(), record=record) == launch.EXIT_STOPPED
    assert Path(FILES[0]).is_file()
    assert not record.file.exists()


def test_a_step_that_fails_records_nothing(record: OutputRecord) -> None:
    assert run_step("target", presets.params("digits"), Path(), record=record) == launch.EXIT_USER
    assert not record.file.exists()


@pytest.mark.parametrize("code", [0, launch.EXIT_STOPPED])
def test_of_several_processes_the_one_that_starts_them_records(
    record: OutputRecord, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    params = presets.params("digits")
    assert run_step("source", params, Path()) == 0
    monkeypatch.setattr(launch, "rank", lambda: None)
    monkeypatch.setattr(launch, "launched", lambda: False)

    def run(command: list[str], processes: int, log: object) -> int:
        assert "--record" not in command
        assert not record.file.exists()
        return code

    monkeypatch.setattr(launch, "run", run)
    tree = params.tree()
    tree["runtime"] |= {"processes": 2, "device": "cpu"}
    several = type(params).model_validate_json(json.dumps(tree))
    assert run_step("supernet", several, Path(), record=record) == code
    assert record.file.exists() == (code == 0)


@pytest.mark.parametrize("words", [["data/x"], ["--record", "record.json"]])
@pytest.mark.parametrize("command", [["adapt"], ["study", "collect"]])
def test_a_record_and_its_files_are_given_together(command: list[str], words: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, *words])
    assert isinstance(done.exception, UserError)
    assert "expected --record FILE OUTPUT..." in str(done.exception)
