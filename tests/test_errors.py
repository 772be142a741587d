"""What a user sees of a fault: names that fit one line, and files that the system refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import tiny_chain
import yaml

from imbnas import cli
from imbnas.data.stored import write_table
from imbnas.errors import UserError, naming_files, visible
from imbnas.files import replacing
from imbnas.run import lock
from imbnas.run.context import Context
from imbnas.training.checkpoint import load_meta


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat/1 \u00e9 \U0001f408.png", "cat/1 \u00e9 \U0001f408.png"),
        ("a\\n.png", "a\\n.png"),
        ("a\nb\tc\r.png", "a\\nb\\tc\\r.png"),
        ("\x1b[31m\x7f\x85", "\\x1b[31m\\x7f\\x85"),
        ("a\u2028b", "a\\u2028b"),
        (os.fsdecode(b"\xff\xfe.png"), "\\xff\\xfe.png"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_name_becomes_one_line_of_utf8(name: str, shown: str) -> None:
    assert visible(name) == shown
    assert visible(visible(name)) == shown
    assert len(visible(name).splitlines()) == 1
    visible(name).encode()
    assert str(UserError(f"{name}: not found")) == f"{shown}: not found"


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.EACCES, "a/b: Permission denied, expected permission to use it"),
        (errno.ENOSPC, "a/b: No space left on device, expected space for it"),
        (errno.EROFS, "a/b: Read-only file system, expected a place that can be written"),
        (errno.EIO, "a/b: Input/output error, expected a file or directory that can be used"),
    ],
)
@pytest.mark.parametrize("name", ["a/b", b"a/b"])
def test_what_the_system_refuses_is_told_with_the_file(number: int, line: str, name: str | bytes) -> None:
    with pytest.raises(UserError) as caught, naming_files():
        raise OSError(number, os.strerror(number), name)
    assert str(caught.value) == line


@pytest.mark.parametrize("error", [OSError(errno.EIO, "torn"), OSError(errno.EBADF, "bad", 3), OSError("damaged")])
def test_what_names_no_file_is_no_bad_input(error: OSError) -> None:
    with pytest.raises(OSError, match=r"torn|bad|damaged") as caught, naming_files():
        raise error
    assert caught.value is error


def test_a_step_keeps_the_traceback_of_an_error_that_names_no_file(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path)

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("imbnas.steps.imbalance.run", fail)
    with pytest.raises(OSError, match="Input/output error"):
        tiny_chain.run(root, "imbalance")
    assert "Traceback" in (root / "logs/imbalance.log").read_text()


def test_a_file_that_cannot_be_written_has_its_own_name(tmp_path: Path, permissions_count: None) -> None:
    (tmp_path / "shut").mkdir(0o500)
    for path in (tmp_path / "shut/x.parquet", tmp_path / "shut/below/x.parquet"):
        with pytest.raises(UserError) as caught, naming_files():
            write_table(path, pa.table({"a": [1]}))
        assert str(caught.value) in (
            f"{tmp_path}/shut/x.parquet: Permission denied, expected permission to use it",
            f"{tmp_path}/shut/below: Permission denied, expected permission to use it",
        )
    (tmp_path / "x").mkdir()
    with (
        pytest.raises(UserError, match=r"/x: Is a directory, expected a file$"),
        naming_files(),
        replacing(tmp_path / "x") as part,
    ):
        part.write_text("1")
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def run(root: Path, capsys: pytest.CaptureFixture[str], step: str, *options: str) -> str:
    """Run a step that is to fail from the command line, and return its one line."""
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_chain.changed()))
    words = ["imbnas", step, "--config", str(root / "params.yaml"), "--root", str(root), *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as stop:
            cli.main()
    told = capsys.readouterr().err
    assert stop.value.code == 2, told
    assert "Traceback" not in told
    assert len(told.splitlines()) == 1, told
    return told.removesuffix("\n")


@pytest.mark.parametrize(
    ("step", "name", "expected"),
    [
        ("adapt", "models/supernet.safetensors", "permission to use it"),
        ("adapt", "data/longtail.parquet", "permission to use it"),
        ("adapt", "data/target/train/info.json", "permission to use it"),
        ("adapt", "data/target/train/images.npy", "uint8 images (845, 8, 8, 1)"),
        ("adapt", "data/target/train/index.parquet", "a parquet file with columns label, row"),
        ("retrain", "results/architecture.json", "permission to use it"),
        ("supernet", "data/source/train", "permission to use it"),
    ],
)
def test_an_input_that_may_not_be_read(
    chain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    permissions_count: None,
    step: str,
    name: str,
    expected: str,
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    (root / name).chmod(0)
    told = run(root, capsys, step)
    (root / name).chmod(0o700)
    below = "/info.json" if name.endswith("train") else ""
    assert told == f"error: {root / name}{below}: Permission denied, expected {expected}"


def test_a_network_that_may_not_be_read(chain: Path, tmp_path: Path, permissions_count: None) -> None:
    file = tiny_chain.copy(chain, tmp_path) / "models/final.safetensors"
    file.chmod(0)
    with pytest.raises(
        UserError, match=r"final\.safetensors: Permission denied, expected a network written by imbnas$"
    ):
        load_meta(file)


def shut(name: str) -> Callable[[Path], None]:
    """Make a directory of the project one in which nothing can be made."""

    def change(root: Path) -> None:
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(0o500)

    return change


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            shut(".imbnas/locks"),
            [],
            "{root}/.imbnas/locks/imbalance-{digest}.lock: Permission denied, expected permission",
        ),
        (shut("data"), [], "{root}/data/longtail.parquet: the directory {root}/data cannot be written, expected"),
        (shut("shut"), ["--log", "{root}/shut/x.log"], "{root}/shut/x.log: Permission denied, expected permission"),
        (shut("shut"), ["--log", "{root}/shut/sub/x.log"], "{root}/shut/sub: Permission denied, expected permission"),
        (shut("shut"), ["--log", "{root}/params.yaml/x.log"], "{root}/params.yaml: File exists, expected a directory"),
        (shut("shut"), ["--log", "{root}/data"], "{root}/data: Is a directory, expected a file"),
        (
            shut("shut"),
            ["--path", "longtail={root}/shut/sub/x.parquet"],
            "{root}/shut/sub/x.parquet: the directory {root}/shut cannot be written, expected permission",
        ),
        (
            shut("shut"),
            ["--path", "longtail={root}/params.yaml/x.parquet"],
            "{root}/params.yaml/x.parquet: {root}/params.yaml is a file, expected a directory",
        ),
    ],
)
def test_a_place_that_may_not_be_written(
    chain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    permissions_count: None,
    change: Callable[[Path], None],
    options: list[str],
    message: str,
) -> None:
    root = tiny_chain.copy(chain, tmp_path / "p")
    # A lock file that is there can be opened: the project as another user would have it has none.
    for file in (root / ".imbnas/locks").iterdir():
        file.unlink()
    change(root)
    told = run(root, capsys, "imbalance", *(option.format(root=root) for option in options))
    moved = [root / "data/longtail.parquet", root / "results/imbalance.json"]
    digest = lock.lock_path(root, "imbalance", moved).stem.rpartition("-")[2]
    assert told.startswith(f"error: {message.format(root=root, digest=digest)}")


def test_outputs_are_looked_at_before_the_work(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, permissions_count: None
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    began: list[str] = []
    monkeypatch.setattr(Context, "identify", lambda *arguments: began.append("identified"))
    (root / "models").chmod(0o500)
    assert tiny_chain.run(root, "supernet") == 2
    (root / "models").chmod(0o700)
    assert began == []


def test_paths_that_are_no_utf8(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny_chain.copy(chain, tmp_path / "p")
    for name in ("longtail", "target_train"):
        told = run(root, capsys, "imbalance", "--path", os.fsdecode(f"{name}={root}/".encode() + b"\xff"))
        assert told == f"error: {root}/\\xff: the path is not valid UTF-8, expected one that is"


def test_a_log_may_have_any_name(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny_chain.copy(chain, tmp_path / "p")
    log = os.fsdecode(os.fsencode(tmp_path) + b"/\xfe.log")
    told = run(root, capsys, "imbalance", "--path", "target_train=" + os.fsdecode(b"\xff"), "--log", log)
    assert Path(log).read_text().endswith(f"s] {told}\n")
