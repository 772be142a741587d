"""One process per step: a second one waits for the first or is refused, even on another machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from imbnas.disk import room_for
from imbnas.errors import UserError
from imbnas.files import controlled, taken

POLL_SECONDS = 1.0
ASK_SECONDS = 10.0


def lock_path(root: Path, step: str, outputs: Iterable[Path]) -> Path:
    """Return the lock file of a step that writes `outputs`; the same step may run for other outputs meanwhile."""
    names = "\n".join(os.path.relpath(output, root) for output in outputs)
    return root / ".imbnas" / "locks" / f"{step}-{hashlib.sha256(os.fsencode(names)).hexdigest()[:8]}.lock"


@contextmanager
def sole(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `path`, which names its holder.

    The kernel frees the lock of a process that dies. Not every shared file system carries it to other machines: there
    the Slurm job that the file names counts as alive as long as `squeue` knows it. Under a workflow's controller, which
    lost sight of the other process, wait for that (`tell` is called once); else raise UserError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    told = False
    with path.open("a+", encoding="utf-8") as stream:
        while (pause := _taken(stream)) is not None:
            holder = _described(_holder(stream))
            if not controlled():
                raise UserError(f"{path}: {holder} runs this step, expected one; wait for it or stop it")
            if not told:
                tell(f"{holder} runs this step: waiting for it")
            told = True
            time.sleep(pause)
        _write(stream, {"host": platform.node(), "process": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")})
        try:
            yield
        finally:
            _write(stream, {})


def _taken(stream: TextIO) -> float | None:
    """Take the lock and return None, or return the seconds after which to try again."""
    if not taken(stream):
        return POLL_SECONDS
    holder = _holder(stream)
    job = holder.get("job")
    # A job that was queued again finds its own name: its former process is gone, or Slurm would not have started it.
    if job and holder["host"] != platform.node() and job != os.environ.get("SLURM_JOB_ID") and active(job):
        with suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_UN)
        return ASK_SECONDS
    return None


def active(job: str) -> bool:
    """Return whether the Slurm job `job` waits or runs; False if Slurm does not answer."""
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and bool(answer.stdout.strip())


def _holder(stream: TextIO) -> dict[str, Any]:
    stream.seek(0)
    try:
        found = json.loads(stream.read() or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "host" in found else {}


def _described(holder: dict[str, Any]) -> str:
    job = f"Slurm job {holder['job']}, " if holder.get("job") else ""
    return f"another process ({job}{holder['process']} on {holder['host']})" if holder else "another process"


def _write(stream: TextIO, holder: dict[str, Any]) -> None:
    text = json.dumps(holder).encode() if holder else b""
    # Not through the stream, which would try once more to write when it is closed.
    with room_for(Path(stream.name), len(text)):
        os.ftruncate(stream.fileno(), 0)
        os.write(stream.fileno(), text)
