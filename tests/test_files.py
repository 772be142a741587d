"""Reading: what is not a file is never opened. Writing: nothing is half-written, and nothing that is there is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_chain

from imbnas.data.class_sizes import from_file
from imbnas.data.decode import decode_file
from imbnas.data.own_images import read_list
from imbnas.data.raw import Reading
from imbnas.data.stored import IMAGES, INDEX, INFO, read_split
from imbnas.data.verify import fault_of
from imbnas.errors import UserError
from imbnas.files import IMAGE_LIMIT, NotRegularError, digest_file, open_regular, read_json, read_text
from imbnas.params.config import load
from imbnas.progress import Log
from imbnas.search.lookup import read_accuracies
from imbnas.training.checkpoint import load_weights

DOORS = {
    "parameters": lambda path: load(path),
    "JSON": lambda path: read_json(path, "a record"),
    "image": lambda path: decode_file(path, Reading(8, 3)),
    "counts": lambda path: from_file(path, ["a", "b"]),
    "list": lambda path: read_list(path.parent, {"train": path.name, "validation": None, "test": None}, "target"),
    "model": lambda path: load_weights(path),
    "table of cells": lambda path: read_accuracies(path, "cifar10"),
    "digest": lambda path: digest_file(path),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "link to a pipe"])
def test_what_is_not_a_file_is_refused_unopened(door: str, kind: str, tmp_path: Path) -> None:
    path, found = tmp_path / "odd", "a named pipe"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
        found = "a device"
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
        found = "a socket"
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    with pytest.raises(UserError) as refusal:
        DOORS[door](path)
    assert str(refusal.value) == f"{path}: found {found}, expected a regular file"


@pytest.mark.parametrize("name", [IMAGES, INDEX, INFO])
def test_a_pipe_in_a_split_is_refused(name: str, tmp_path: Path) -> None:
    assert tiny_chain.run(tmp_path, "source") == 0
    directory = tmp_path / "data/source/train"
    (directory / name).unlink()
    os.mkfifo(directory / name)
    with pytest.raises(UserError, match=f"{name}: found a named pipe, expected a regular file"):
        read_split(directory)


def test_a_check_of_images_names_the_kind_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert fault_of(tmp_path / "a.png", full=False) == "found a named pipe, expected a regular file"


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as stream:
        stream.truncate(IMAGE_LIMIT + 1)
    with pytest.raises(UserError, match=r"large.png: found at least 1,073,741,825 bytes, expected at most 1,073,741,8"):
        decode_file(large, Reading(8, 3))


def test_a_file_that_says_it_is_empty_is_read_up_to_the_limit() -> None:
    with pytest.raises(NotRegularError, match="found at least 11 bytes, expected at most 10"):
        read_text(Path("/proc/self/status"), 10)


def test_lines_end_as_they_do_in_text_files(tmp_path: Path) -> None:
    (tmp_path / "counts.txt").write_bytes(b"\xef\xbb\xbf10\r\n20\r30\n")
    assert from_file(tmp_path / "counts.txt", ["a", "b", "c"]).tolist() == [10, 20, 30]


def test_a_directory_is_named_as_open_does(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_an_endless_line_is_refused_by_number(tmp_path: Path) -> None:
    text = b"a.png 0\nb.png 1\n" + b"x" * 5_000_000 + b"\n"
    (tmp_path / "list.txt").write_bytes(text)
    with pytest.raises(UserError, match=r"list.txt:3: found a line of over 65536 bytes") as refusal:
        read_list(tmp_path, {"train": "list.txt", "validation": None, "test": None}, "target")
    assert len(str(refusal.value)) < 1000


def test_a_list_without_a_last_newline_is_whole(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.png 0\nb.png 1")
    listing = read_list(tmp_path, {"train": "list.txt", "validation": None, "test": None}, "target")["train"]
    assert listing is not None
    assert listing.raw.paths == ["a.png", "b.png"]


def test_a_long_value_is_cut_in_the_message() -> None:
    error = UserError("file:3: found '" + "x" * 50_000_000 + "', expected a number")
    assert len(str(error)) < 4000
    assert str(error).startswith("file:3: found 'xxx")
    assert str(error).endswith("x', expected a number")


def test_a_log_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError, match="No such device or address"):
        Log("adapt", tmp_path / "log")


def test_a_log_goes_on_in_an_old_file(tmp_path: Path) -> None:
    for line in ("one", "two"):
        Log("adapt", tmp_path / "log").to_file(line)
    assert [line.split("] ")[1] for line in (tmp_path / "log").read_text().splitlines()] == ["one", "two"]


KILLED = """
import os
from pathlib import Path
import numpy as np
import tiny_chain
assert tiny_chain.run(Path("."), "source") == 0
np.lib.format.write_array_header_1_0 = lambda *_: os.kill(os.getpid(), 9)
tiny_chain.run(Path("."), "target")
"""


def test_the_next_attempt_removes_what_a_killed_one_left_half_written(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = list(tmp_path.rglob(".*.part"))
    assert [part.parent for part in left] == [tmp_path / "data/target/train"]
    own = ["data/target/test/.info.json.7.part", "results/.cost.json.7.part", ".imbnas/kept/target/.old.json.7.part"]
    # Of other steps and other jobs, which may be writing, and no left-overs of ours at all.
    others = ["results/.metrics.json.7.part", "data/.longtail.parquet.7.part", ".imbnas/kept/target/.new.json.7.part"]
    others += ["data/target/train/.x.part", "data/target/train/x.7.part"]
    for name in (*own, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / own[2], (0, 0))
    assert tiny_chain.run(tmp_path, "target") == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.part")} == set(others)


def test_a_step_removes_half_written_states_and_costs_of_its_own(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    short: dict[str, Any] = {"supernet__epochs": 1, "runtime__state_interval": 0.0}
    written: set[str] = set()
    replace = Path.replace

    def note(part: Path, path: Path) -> Path:
        written.add(str(part))
        return replace(part, path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "replace", note)
        assert tiny_chain.run(root, "supernet", **short) == 0
    parts = [Path(part.replace(f".{os.getpid()}.part", ".7.part")) for part in sorted(written)]
    assert {"models", "supernet", "results"} <= {part.parent.name for part in parts}
    for part in parts:
        part.write_text("half")
    other = root / f".imbnas/resume/supernet/.{'0' * 32}.supernet.pt.7.part"
    other.write_text("half")
    assert tiny_chain.run(root, "supernet", **short) == 0
    assert list(root.rglob("*.part")) == [other]
