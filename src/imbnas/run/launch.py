"""Starts the processes of one training on this machine and ends as they do.

Each runs the step's own command and is told its place in the variables that torchrun uses, so that a training over
several machines can be started by torchrun instead. The first process writes; what the others say is told only where
it is why the training failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from imbnas.progress import Log
from imbnas.training import RENDEZVOUS

EXIT_USER = 2
EXIT_PEER = 3
"""Of a process that could not go on because another had ended."""
EXIT_STOPPED = 128 + signal.SIGTERM
POLL_SECONDS = 0.05
GRACE_SECONDS = 20.0
"""Seconds that the other processes get to end by themselves after one has failed; some wait for it in vain."""
STOP_SECONDS = 120.0
"""What the processes have to save their state when they are asked to stop."""


def rank() -> int | None:
    """Return this process's number in its training, None where it has none yet."""
    number = os.environ.get("RANK")
    return int(number) if number is not None and "WORLD_SIZE" in os.environ and "LOCAL_RANK" in os.environ else None


def launched() -> bool:
    """Return whether this process was started by `run`, not by torchrun."""
    return RENDEZVOUS in os.environ


def follow_launcher() -> None:
    """End this process when its launcher does, however that ends: its locks are then free for another run."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(EXIT_PEER)

    threading.Thread(target=wait, daemon=True).start()


def run(command: Sequence[str], processes: int, log: Log) -> int:
    """Run a step's command in so many processes and return the exit code of the step.

    A signal to stop is handed to all. When one fails, the others are ended.
    """
    with tempfile.TemporaryDirectory(prefix="imbnas-ranks-") as folder:
        group = _Group(command, processes, Path(folder))
        with group.handing_on_signals():
            try:
                group.wait()
            finally:
                group.end()
        return group.verdict(log)


class _Group:
    """The running processes."""

    def __init__(self, command: Sequence[str], processes: int, folder: Path) -> None:
        self._folder = folder
        self._asked = False
        self._ended: set[int] = set()
        common = {"WORLD_SIZE": f"{processes}", "LOCAL_WORLD_SIZE": f"{processes}", RENDEZVOUS: f"{folder / 'meet'}"}
        # All on this machine: the name of another interface need not lead back to it.
        environment = {"GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0", **os.environ, **common}
        self._processes = []
        for number in range(processes):
            with self._said(number).open("wb") as said:
                self._processes.append(
                    subprocess.Popen(
                        command,
                        env={**environment, "RANK": f"{number}", "LOCAL_RANK": f"{number}"},
                        stdin=subprocess.PIPE,
                        stdout=said if number else None,
                        stderr=said if number else None,
                    )
                )

    @contextmanager
    def handing_on_signals(self) -> Iterator[None]:
        """Pass SIGTERM and SIGINT on as SIGTERM."""

        def hand_on(number: int, frame: FrameType | None) -> None:
            self._asked = True
            for process in self._processes:
                if process.poll() is None:
                    process.terminate()

        before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self) -> None:
        """Wait until all have ended, or have had their time after one has failed or all were asked to stop."""
        failed: float | None = None
        asked: float | None = None
        while None in (codes := [process.poll() for process in self._processes]):
            now = time.monotonic()
            failed = now if failed is None and any(codes) else failed
            asked = now if asked is None and self._asked else asked
            if failed is not None and now - failed > GRACE_SECONDS:
                return
            if asked is not None and now - asked > STOP_SECONDS:
                return
            time.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Kill what is left."""
        for number, process in enumerate(self._processes):
            if process.poll() is None:
                self._ended.add(number)
                process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def verdict(self, log: Log) -> int:
        """Return the exit code of them all, and tell what failed if the first process has not done so."""
        codes = [process.returncode for process in self._processes]
        if not any(codes):
            return 0
        guilty = [
            k for k, code in enumerate(codes) if code not in (0, EXIT_PEER, EXIT_STOPPED) and k not in self._ended
        ]
        wrong = [k for k in guilty if codes[k] == EXIT_USER]
        if not wrong and (self._asked or EXIT_STOPPED in codes):
            return EXIT_STOPPED
        number = min(wrong or guilty or [k for k, code in enumerate(codes) if code])
        said = self._said(number).read_text(encoding="utf-8", errors="replace").strip()
        if said:
            log.to_file(said)
            print(said, file=sys.stderr)
        if wrong:
            return EXIT_USER
        how = f"by signal {-codes[number]}" if codes[number] < 0 else f"with code {codes[number]}"
        log(f"error: process {number + 1} of {len(codes)} ended {how}; run the same command again to go on")
        return 1

    def _said(self, number: int) -> Path:
        return self._folder / f"{number}.txt"
