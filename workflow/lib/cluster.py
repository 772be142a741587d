"""Slurm's jobs of an earlier run in this directory, whose controller was killed and left them behind.

Nothing attaches them to a new controller. It waits for them: a second copy of a training would cost hours, and the two
would write the same files. What they finish is not lost, see `imbnas.files.discard`.
"""

from __future__ import annotations

import getpass
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from imbnas.errors import UserError

POLL_SECONDS = 5.0


def left_behind() -> list[str]:
    """Return id, rule and state of each of this user's jobs that Snakemake submitted from this directory.

    Empty where there is no Slurm or it does not answer. A controller that has submitted nothing yet calls this: jobs
    that it finds are an earlier one's.
    """
    command = ["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%T|%k|%Z"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = []
    for line in answer.stdout.splitlines():
        job, state, comment, folder = (line.split("|", 3) + [""] * 3)[:4]
        if comment.startswith("rule_") and os.path.realpath(folder) == os.path.realpath(Path.cwd()):
            found.append(f"{job} ({comment.removeprefix('rule_')}, {state.lower()})")
    return found


def settle(jobs: Callable[[], list[str]] = left_behind) -> bool:
    """Wait until no job of an earlier run is left, say so, and return whether there was one.

    SIGTERM, which Snakemake has by now taken to mean "after the running jobs", ends the waiting at once.
    """
    before = signal.signal(signal.SIGTERM, _stop)
    told: list[str] = []
    try:
        while found := jobs():
            if found != told:
                _tell(f"jobs of an earlier run in this directory are left: {', '.join(found)}; waiting for them")
                if not told:
                    ids = " ".join(job.split()[0] for job in found)
                    _tell(f"(to stop them instead: scancel {ids}; their trainings then go on from their saved states)")
            told = found
            time.sleep(POLL_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, before)
    return bool(told)


def check(command: str, seconds: int) -> None:
    """Raise UserError where Slurm will not tell what became of a job, for which Snakemake then waits for ever.

    `command` is the plugin's status command, `seconds` its time before the first look. Without accounting, `sacct`
    knows nothing, and Slurm itself forgets a job some time after its end (MinJobAge). The plugin trusts it with three
    times `seconds`, and falls back to `sacct` below.
    """
    try:
        told = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return
    found = dict(re.findall(r"^(MinJobAge|AccountingStorageType) *= *(\S+)", told, re.MULTILINE))
    if found.get("AccountingStorageType") not in ("accounting_storage/none", "(null)"):
        return
    if command == "sacct":
        raise UserError("slurm-status-command: found sacct, but this Slurm has no accounting, expected squeue")
    kept = int(found.get("MinJobAge", 300))
    if kept < 3 * seconds:
        raise UserError(
            f"slurm-init-seconds-before-status-checks: found {seconds}, but this Slurm has no accounting and forgets "
            f"ended jobs after {kept} s (MinJobAge), expected at most {kept // 3}"
        )


def _stop(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
