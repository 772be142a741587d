"""Commands that write a file look at its place, and at all their options, before they read or compute anything."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imbnas.cli import app
from imbnas.errors import UserError
from imbnas.files import check_writable

ROOT = Path(__file__).resolve().parents[1]
NETWORK = "nowhere.safetensors"
"""A network that is not there: whoever tells of something else has not looked for it."""
WRITERS = {
    "predict": ["predict", NETWORK, "photo.png", "--output", "{place}.csv"],
    "export": ["export", NETWORK, "--output", "{place}.pt2"],
    "export to ONNX": ["export", NETWORK, "--output", "{place}.onnx"],
    "export in 8 bits": ["export", NETWORK, "--int8", "--output", "{place}.onnx"],
    "inspect": ["inspect", "nowhere", "--output", "{place}.html"],
    "latency": ["latency", "--config", "nowhere.yaml", "--output", "{place}.csv"],
    "truth collect": ["truth", "collect", "nowhere.yaml", "--page", "{place}.md"],
    "a step's record": ["imbalance", "--config", "nowhere.yaml", "--record", "{place}.json", "x"],
    "the study's record": ["study", "collect", "--config", "nowhere.yaml", "--record", "{place}.json", "x"],
}


def refused(words: list[str]) -> str:
    """Return the one line with which a command ends."""
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, UserError):
        return str(done.exception)
    assert done.exit_code == 2, done.exception
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", WRITERS.values(), ids=WRITERS)
def test_a_place_that_cannot_be_written_is_told_first(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, permissions_count: None
) -> None:
    monkeypatch.chdir(tmp_path)
    shut, file = tmp_path / "shut", tmp_path / "file"
    shut.mkdir(0o500)
    file.touch()
    for place, why in (
        (shut / "deep/x", f": the directory {shut} cannot be written, expected permission to write there"),
        (file / "x", f": {file} is a file, expected a directory"),
        (tmp_path / ("x" * 245), ": File name too long, expected a file that can be written"),
    ):
        name = words[-1] if words[-1].startswith("{") else words[-2]
        told = refused([word.format(place=place) for word in words])
        assert told == f"{name.format(place=place)}{why}"
    assert sorted(tmp_path.iterdir()) == [file, shut]


def test_a_directory_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(UserError, match=r"x\.csv: a directory, expected a file$"):
        check_writable(tmp_path / "x.csv")
    with pytest.raises(UserError, match=r"^/dev/null: found a device, expected a regular file$"):
        check_writable(Path("/dev/null"))
    (tmp_path / "there.csv").touch()
    check_writable(tmp_path / "there.csv")
    check_writable(tmp_path / "new/deep/x.csv")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["demo", NETWORK, "--shots", "foo"], "'foo' is not one of 'kang', 'oltr', 'thirds'"),
        (["demo", NETWORK, "--port", "{taken}"], "--port {taken}: Address already in use, expected a free port"),
        (["demo", NETWORK, "--top", "0"], "'--top'"),
        (["predict", NETWORK, "x.png", "--device", "cuda"], "--device cuda: torch sees none on this machine"),
        (["predict", NETWORK, "x.png", "--abstain", "nan"], "--abstain"),
        (["predict", NETWORK, "--list", "none.txt"], "none.txt: No such file or directory, expected a list"),
        (["predict", NETWORK, "x.png", "--output", "a.txt"], "a.txt: expected a name that ends in .csv, .json or"),
        (["export", NETWORK, "--output", "a.pt"], "a.pt: expected a name that ends in .pt2"),
        (["export", NETWORK, "--root", "there"], "--root: found without --int8, expected both"),
        (["export", NETWORK, "--path", "final=x"], "--path: found without --int8, expected both"),
        (["export", NETWORK, "--int8", "--path", "nothing=x"], "--path nothing=x: expected NAME=PATH"),
        (["export", NETWORK, "--int8", "--config", "none.yaml"], "none.yaml: No such file or directory, expected"),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else "",
)
def test_options_are_looked_at_before_the_network(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = {"taken": taken.getsockname()[1]}
        assert why.format(**given) in refused([word.format(**given) for word in words])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("longtail", "directory", "a directory, expected a file"),
        ("imbalance", "directory", "a directory, expected a file"),
        ("target_train", "file", "is a file, expected a directory"),
    ],
)
def test_a_step_refuses_an_output_of_another_kind(
    name: str, kind: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from imbnas.progress import Log
    from imbnas.run.context import Context

    place = tmp_path / "place"
    if kind == "file":
        place.touch()
    else:
        place.mkdir()
    step = "target" if name == "target_train" else "imbalance"
    with pytest.raises(UserError, match=why):
        Context(step, tmp_path, Log(step), {name: place}).check_outputs()


def test_nothing_is_exported_where_the_copy_in_8_bits_is_impossible(tmp_path: Path) -> None:
    import fake_project as fake

    fake.write_networks(tmp_path, fake.write_test_split(tmp_path))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    words = ["export", str(tmp_path / "models/final.safetensors"), "--int8", "--root", str(tmp_path)]
    told = refused([*words, "--config", str(tmp_path / "params.yaml")])
    assert told.startswith(f"{tmp_path / 'data/target/train'}"), told
    assert not (tmp_path / "models/final.onnx").exists()
