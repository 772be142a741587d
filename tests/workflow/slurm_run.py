"""A project whose controller runs on a throw-away cluster, and what is seen of it from outside."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from textwrap import dedent, indent
from typing import ClassVar

from workflow_project import Project

SLURM = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "6")
TRAINED = "models/adapted.safetensors"
"""The target of the disturbed runs: the supernet, whose training is disturbed, and the next step, which reads it."""
EPOCHS = 60
"""Of the supernet: some 15 seconds."""
PATIENCE = 600.0


class Run:
    """One controller, started in the background."""

    started: ClassVar[list[Run]] = []

    def __init__(self, project: Project, *options: str, **env: str) -> None:
        """Start `snakemake` with `options`."""
        self.log = project.path.parent / f"{time.monotonic_ns()}.log"
        self.process = subprocess.Popen(
            ["snakemake", *options],
            cwd=project.path,
            env={**project.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.started.append(self)

    @property
    def output(self) -> str:
        return self.log.read_text()

    def end(self, expect: int = 0, patience: float = PATIENCE) -> str:
        """Wait for the controller and return its output."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run does not end:\n{self.output}") from None
        assert code == expect, self.output
        return self.output

    def kill(self) -> None:
        """Kill the controller and what it started on this machine with SIGKILL; jobs on the cluster go on."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @classmethod
    def kill_all(cls) -> None:
        """Kill the controllers that a failed test has left."""
        for run in cls.started:
            if run.process.poll() is None:
                run.kill()
        cls.started.clear()


class Cluster:
    """The commands of Slurm."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    def __call__(self, *command: str) -> str:
        return subprocess.run(command, env={**os.environ, **self.env}, check=True, stdout=-1, text=True).stdout.strip()

    def jobs(self, *states: str) -> list[str]:
        """Return the ids of jobs, of those in `states` if there are any."""
        return self("squeue", "-h", "-o", "%i", *([f"--states={','.join(states)}"] if states else [])).split()

    def rule(self, name: str) -> str:
        """Return the id of the one job of a rule that waits or runs, or an empty string."""
        lines = [line.split() for line in self("squeue", "-h", "-o", "%i %k").splitlines()]
        return next((job for job, comment in lines if comment == f"rule_{name}"), "")

    def failed(self) -> str:
        """Return a line per job that ended otherwise than well, and what the daemons say of their own errors."""
        lines = self("squeue", "-h", "--states=all", "-o", "%i %k %T, %r, %M").splitlines()
        bad = [line for line in lines if not any(state in line for state in ("COMPLETED", "RUNNING", "PENDING"))]
        for log in sorted(Path(self.env["SLURM_CONF"]).parent.glob("slurm*.log")):
            errors = [line for line in log.read_text(errors="replace").splitlines() if "error:" in line]
            bad += [f"{log.name}: {line}" for line in errors[-10:]]
        return "\n".join(bad)


def power_off(folder: str) -> None:
    """Kill the node's daemon and all that its jobs have started, as a power failure does."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            env = dict(pair.split("=", 1) for pair in (place / "environ").read_text().split("\0") if "=" in pair)
            name = (place / "comm").read_text().strip()
        except OSError:
            continue
        part = name in ("slurmd", "slurmstepd") or "SLURM_JOB_ID" in env
        if part and env.get("SLURM_CONF", "").startswith(folder):
            with suppress(ProcessLookupError):
                os.kill(int(place.name), signal.SIGKILL)


class Watch:
    """Follows `logs/supernet.log`, which is emptied when an attempt starts, and remembers what stood in it."""

    def __init__(self, project: Project, per_epoch: int) -> None:
        self.file = project.path / "logs/supernet.log"
        self.per_epoch = per_epoch
        self.attempts: list[str] = []
        self.lost = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stop.wait(0.05):
            text = self.file.read_text() if self.file.exists() else ""
            if text and self.attempts and text.startswith(self.attempts[-1]):
                self.attempts[-1] = text
            elif text:
                self.attempts.append(text)

    def epoch(self) -> int:
        """Return the last epoch that ended in the present attempt."""
        found = re.findall(r"epoch (\d+) of", self.attempts[-1] if self.attempts else "")
        return int(found[-1]) if found else 0

    def end(self) -> tuple[list[int], int]:
        """Return the optimiser steps at which attempts went on, and how many steps were done twice."""
        self._stop.set()
        self._thread.join()
        text = "".join(self.attempts)
        done, repeated, starts = 0, 0, []
        for line in text.splitlines():
            if found := re.search(r"epoch (\d+) of", line):
                done = max(done, int(found[1]) * self.per_epoch)
            elif found := re.search(r"goes on from optimiser step (\d+)", line):
                starts.append(int(found[1]))
                repeated += max(0, done - starts[-1])
        return starts, repeated


def wait_for(what: Callable[[], object], run: Run | None = None, patience: float = PATIENCE) -> None:
    """Wait until `what` is true; fail when it takes too long or the run ends before."""
    deadline = time.monotonic() + patience
    while not what():
        assert run is None or run.process.poll() is None, run.output
        assert time.monotonic() < deadline, run.output if run else "it does not happen"
        time.sleep(0.1)


def digests(project: Project, *folders: str) -> dict[str, str]:
    """Return the SHA-256 of every output but the cost in `folders`, those of the chain if there are none."""
    files = [
        file for name in folders or ("data", "models", "results") for file in sorted((project.path / name).rglob("*"))
    ]
    return {
        file.relative_to(project.path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file() and file.name not in ("cost.json", "cost-details.json", ".gitignore")
    }


def balloon(folder: Path, megabytes: int, flag: Path) -> str:
    """Return a PYTHONPATH that makes the step `supernet` take that much memory, once, when `flag` exists."""
    return _beside(
        folder,
        "supernet",
        f"""
        while not pathlib.Path({str(flag)!r}).exists():
            time.sleep(0.1)
        pathlib.Path({str(flag)!r}).unlink()
        held = bytearray(b"x") * ({megabytes} << 20)
        time.sleep(60)
        """,
    )


def stopped(folder: Path, step: str, job: Path) -> str:
    """Return a PYTHONPATH that stops the first process of a step once it has said something in its log.

    Its Slurm job's number is then in the file `job`.
    """
    return _beside(
        folder,
        step,
        f"""
        claim = pathlib.Path({str(folder / "claim")!r})
        log = pathlib.Path(sys.orig_argv[sys.orig_argv.index("--log") + 1])
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            return
        while not (log.exists() and log.stat().st_size):
            time.sleep(0.01)
        part = claim.with_name("part")
        part.write_text(os.environ["SLURM_JOB_ID"])
        part.rename({str(job)!r})
        os.kill(os.getpid(), signal.SIGSTOP)
        """,
    )


def _beside(folder: Path, step: str, body: str) -> str:
    """Return a PYTHONPATH that makes processes of a step run `body` in a thread of their own."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, pathlib, signal, sys, threading, time\n"
        "def beside():\n"
        f"{indent(dedent(body), '    ')}\n"
        f"if {step!r} in sys.orig_argv and '--log' in sys.orig_argv:\n"
        "    threading.Thread(target=beside, daemon=True).start()\n"
    )
    return str(folder)
