"""Who holds Snakemake's lock on this directory, and its removal after its holder was killed.

Snakemake's lock is a set of files without a name in them: those of a controller that was killed refuse every later run
until somebody types `snakemake --unlock`. A controller of ours therefore holds a record of its own before it takes that
lock. The kernel frees it with the process, however that ends, so that a later controller on the same machine can tell.
Of another machine nobody can be sure: a shared file system need not carry locks, and nothing is removed.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from imbnas.errors import naming_files
from imbnas.files import taken

RECORDS = Path(".imbnas/controllers")
LOCKS = Path(".snakemake/locks")
_HELD: list[TextIO] = []
"""The open record of this process; the kernel frees it when it is closed."""


@dataclass(frozen=True)
class Holder:
    """A controller that has left its record."""

    record: Path
    host: str
    process: int
    since: int

    @property
    def here(self) -> bool:
        """Whether it ran on this machine."""
        return self.host == platform.node()

    @property
    def alive(self) -> bool:
        """Whether it still runs, of one that ran on this machine."""
        try:
            stream = self.record.open(encoding="utf-8")
        except FileNotFoundError:
            return False
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                # A file system without locks. Another process may have its number by now: then the lock stays.
                return _exists(self.process)
        return False

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


@naming_files()
def hold(unlocking: bool = False) -> None:
    """Leave this controller's record, and remove Snakemake's lock where all that may have taken it are dead.

    Where one of them ran on another machine, say who and what to type. `unlocking` is what the user has typed then: the
    records of other machines are no longer believed.
    """
    RECORDS.mkdir(parents=True, exist_ok=True)
    with (RECORDS / "turn").open("a") as turn:
        taken(turn, wait=True)
        others = holders()
        dead = [holder for holder in others if (unlocking if not holder.here else not holder.alive)]
        living = [holder for holder in others if holder not in dead]
        locks = sorted(LOCKS.glob("*.lock"))
        # A lock from before all records is not that of any of them.
        theirs = dead and all(file.stat().st_mtime_ns >= min(holder.since for holder in dead) for file in locks)
        if locks and theirs and not living and not unlocking:
            for file in locks:
                file.unlink()
            _tell(f"a run that was killed ({', '.join(map(str, dead))}) has left its lock on this directory: removed")
            locks = []
        elif locks and living and not any(holder.here for holder in living):
            _tell(
                f"this directory may be locked by {', '.join(map(str, living))}, which cannot be asked from here; "
                "if it is dead: snakemake --unlock"
            )
        if not locks or unlocking:
            for holder in dead:
                holder.record.unlink(missing_ok=True)
        _leave_record()


def holders() -> list[Holder]:
    """Return the controllers that have left a record, this process not among them."""
    found = []
    for file in sorted(RECORDS.glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(file.read_text(encoding="utf-8"))
            found.append(Holder(file, str(told["host"]), int(told["process"]), file.stat().st_mtime_ns))
    return [holder for holder in found if (holder.host, holder.process) != (platform.node(), os.getpid())]


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _leave_record() -> None:
    record = RECORDS / f"{platform.node()}-{os.getpid()}.json"
    stream = record.open("w", encoding="utf-8")
    taken(stream)
    json.dump({"host": platform.node(), "process": os.getpid()}, stream)
    stream.flush()
    _HELD.append(stream)
    atexit.register(record.unlink, missing_ok=True)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
