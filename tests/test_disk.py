"""A full disk and a limit on file sizes: one line, exit code 2, nothing lost, in every step."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_chain
import torch

from imbnas.disk import amount, lacking, room_for
from imbnas.errors import UserError, naming_files
from imbnas.files import replacing, write_bytes
from imbnas.progress import Log
from imbnas.run.graph import STEPS
from imbnas.sealed import write_sealed
from imbnas.training.checkpoint import save_weights

SHORT: dict[str, Any] = {
    "supernet__epochs": 1,
    "adapt__head": {"epochs": 1},
    "search__candidates": 3,
    "retrain__epochs": 1,
}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes, as `ulimit -f` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "bytes": lambda path: write_bytes(path, b"x" * 40_000),
    "network": lambda path: save_weights(path, {"w": torch.zeros(10_000)}, {"kind": "subnet"}),
    "state": lambda path: write_sealed(path, lambda s: torch.save({"w": torch.zeros(10_000)}, s), 40_000),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("limit", [0, 1, 5_000, 30_000])
def test_a_file_that_does_not_fit_is_named_with_its_size(writer: str, limit: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("earlier")
    with largest_file(limit), pytest.raises(UserError) as refusal:
        WRITERS[writer](path)
    expected = rf"{path}: File too large, expected files of 4\d,\d+ bytes to be allowed, see `ulimit -f` "
    assert re.fullmatch(rf"{expected}\(found {limit:,} bytes\)", str(refusal.value))
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_size_more_is_wanted_than_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(UserError, match="expected room for more than 7 bytes") as refusal, replacing(path) as part:
        part.write_text("content")
        raise OSError(errno.ENOSPC, "full")
    assert str(refusal.value).startswith(f"{path}: No space left on device, ")


def test_other_errors_pass(tmp_path: Path) -> None:
    for error in (OSError(errno.EIO, "broken"), RuntimeError("28"), UserError("(os error 28)")):
        with pytest.raises(type(error)) as passed, room_for(tmp_path, 1):
            raise error
        assert passed.value is error
    assert lacking(RuntimeError("Error while serializing: I/O error: (os error 28)")) == errno.ENOSPC


def test_a_nameless_lack_of_space_is_no_traceback() -> None:
    with pytest.raises(UserError, match="a file that is being written: No space left on device"), naming_files():
        raise OSError(errno.ENOSPC, "No space left on device")


def test_files_follow_the_umask_whatever_writes_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_weights(tmp_path / "network", {"w": torch.zeros(3)}, {"kind": "subnet"})
        write_bytes(tmp_path / "bytes", b"")
        with replacing(tmp_path / "other") as part:
            part.unlink()
            part.touch(0o600)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o640}


def test_a_log_on_a_full_disk_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log("adapt", tmp_path / "log")
    with largest_file(0):
        log.to_file("one")
        log("two")
    log.to_file("three")
    assert (tmp_path / "log").read_text().endswith("three\n")
    assert capsys.readouterr().err.splitlines() == [
        "adapt: the log file misses lines from here on: File too large",
        "adapt: two",
    ]


def test_amounts_are_read_by_people() -> None:
    assert [amount(count) for count in (0, 999, 2**20, 2**30)] == ["0 bytes", "999 bytes", "1.00 MiB", "1.00 GiB"]


@pytest.fixture(scope="module")
def whole(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which all eight steps have run, none for long."""
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("whole"))
    assert tiny_chain.run(root, "supernet", "adapt", "search", "retrain", "evaluate", **SHORT) == 0
    return root


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_may_not_write_says_so_and_goes_on_later(
    step: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, expected = tiny_chain.copy(whole, tmp_path), tiny_chain.digests(whole)
    for limit in (0, 300, 8_000):
        shutil.rmtree(root / "logs")
        capsys.readouterr()
        with largest_file(limit):
            code = tiny_chain.run(root, step, runtime__state_interval=0.0, **SHORT)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert (code, len(lines)) in ((2, 1), (0, 0)), lines
        assert code == 2 or limit > 0
        if code:
            assert re.match(rf"error: {root}/\S+: File too large, expected files of .*bytes to be allowed", lines[0])
        assert not list(root.rglob("*.part"))
        assert {name: digest for name, digest in tiny_chain.digests(root).items() if expected[name] != digest} == {}
    assert tiny_chain.run(root, step, runtime__state_interval=0.0, **SHORT) == 0
    assert tiny_chain.digests(root) == expected


FULL = """
import json, re, shutil, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import tiny_chain
from imbnas.run.graph import STEPS

whole, root, short = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[4])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(root)], check=True)
tiny_chain.copy(whole, root)
expected = tiny_chain.digests(whole)
for step in STEPS:
    for spare in (1, 4):
        shutil.rmtree(root / "logs", ignore_errors=True)
        filler = root / "filler"
        with filler.open("wb", buffering=0) as stream:
            free = shutil.disk_usage(root).free - spare * 4096
            stream.write(b"x" * free)
        print("###", step, spare, flush=True, file=sys.stderr)
        code = tiny_chain.run(root, step, runtime__state_interval=0.0, **short)
        print("code", code, flush=True, file=sys.stderr)
        filler.unlink()
        changed = {name for name, digest in tiny_chain.digests(root).items() if expected[name] != digest}
        assert not changed, changed
    assert tiny_chain.run(root, step, **short) == 0
    assert tiny_chain.digests(root) == expected
"""


def may_mount() -> bool:
    return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True).returncode == 0


def test_a_full_disk_loses_nothing_in_any_step(whole: Path, tmp_path: Path) -> None:
    if not shutil.which("unshare") or not may_mount():
        pytest.skip("no file system can be mounted in a mount namespace of one's own")
    (tmp_path / "small").mkdir()
    command = [
        "unshare",
        "-m",
        sys.executable,
        "-c",
        FULL,
        str(whole),
        str(tmp_path / "small"),
        str(Path(__file__).parent),
        json.dumps(SHORT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    attempts = done.stderr.split("### ")[1:]
    assert len(attempts) == 2 * len(STEPS)
    refused = [attempt for attempt in attempts if "\ncode 2\n" in attempt]
    assert {attempt.split()[0] for attempt in refused} == set(STEPS)
    for attempt in refused:
        (line,) = [line for line in attempt.splitlines() if line.startswith("error:")]
        assert re.match(rf"error: {tmp_path}/small/\S*: No space left on device, expected (room|space) for ", line)
