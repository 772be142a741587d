"""Parts of the tests of hostile files: a command that must refuse, and edits that make a file odd."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from PIL import Image

from imbnas import cli

Edit = Callable[[Path], None]
PATIENCE = 60
"""Seconds after which a command counts as hung; each takes a few, most of them for torch's import."""


def give_up(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("hung")


def patience() -> Iterator[None]:
    """Raise TimeoutError in a test that hangs: the body of an automatic fixture."""
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def run(root: Path, capfd: pytest.CaptureFixture[str], words: str) -> tuple[int, str, str]:
    """Run a command line in `root` and return its exit code, standard output and standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("sys.argv", ["imbnas", *words.split()])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, *capfd.readouterr()


def refused(root: Path, capfd: pytest.CaptureFixture[str], words: str, named: str) -> None:
    """Expect exit code 2 and, besides what a step logs, one line, which holds `named`."""
    code, _, told = run(root, capfd, words)
    lines = told.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert (code, len(errors)) == (2, 1), told[-2000:]
    assert lines[-1] == errors[0]
    assert named in errors[0]
    assert "Traceback" not in told
    assert len(errors[0]) < 4000
    assert errors[0].isprintable()


def picture(path: Path, colour: int = 3, size: tuple[int, int] = (9, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 2, 1)).save(path)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(200 << 30)


def raw(data: Callable[[bytes], bytes]) -> Edit:
    return lambda path: path.write_bytes(data(path.read_bytes())) and None
