"""The log of a running step: plain lines in its log file, and lines with a progress bar on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imbnas.disk import lacking
from imbnas.errors import visible

if TYPE_CHECKING:
    from rich.progress import Progress


class Log:
    """Lines of one step, each stamped with the seconds since its start, to a file and to standard error."""

    def __init__(self, step: str, file: Path | None = None, silent: bool = False) -> None:
        """Open `file` for appending, so that a resumed attempt adds to it; None writes to standard error alone.

        `silent`: discard everything; only the first process of a distributed training logs.
        """
        self.step = step
        self._start = time.monotonic()
        self._stream: int | None = None
        self._bar: Progress | None = None
        self._silent = silent
        self._full = False
        if file is not None and not silent:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = _without_waiting(file)

    def __call__(self, message: str) -> None:
        """Write one line."""
        if self._silent:
            return
        message = visible(message)
        self.to_file(message)
        line = f"{self.step}: {message}"
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def to_file(self, message: str) -> None:
        """Write to the log file alone: details that would clutter a terminal."""
        if self._stream is None:
            return
            # Neither a name that is not UTF-8 nor a full disk may end a step: what counts is the step's outputs.
        line = f"[{time.monotonic() - self._start:8.1f} s] {message}\n".encode(errors="backslashreplace")
        try:
            os.write(self._stream, line)
        except OSError as error:
            if lacking(error) is None:
                raise
            if not self._full:
                print(f"{self.step}: the log file misses lines from here on: {error.strerror}", file=sys.stderr)
            self._full = True

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0) -> Iterator[Bar]:
        """Yield a bar to advance; shown on a terminal only."""
        if self._silent or not sys.stderr.isatty():
            yield Bar(None, 0)
            return
        # Trainings that take turns have a line each.
        if self._bar is None:
            self._bar = _progress()
            self._bar.start()
        progress, task = self._bar, self._bar.add_task(f"{self.step}: {title}", total=total, completed=done, note="")
        try:
            yield Bar(progress, task)
        finally:
            progress.remove_task(task)
            if not progress.task_ids:
                progress.stop()
                self._bar = None


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _without_waiting(file: Path) -> int:
    """Open a file to append to it; a pipe which nobody reads is an error, since waiting might last for ever."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


class Bar:
    """A progress bar, or nothing where there is no terminal."""

    def __init__(self, progress: Progress | None, task: int) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int = 1, note: str = "") -> None:
        """Move on by `count`; `note` replaces the text at the bar's end unless it is empty."""
        if self._progress is not None:
            from rich.progress import TaskID

            task = TaskID(self._task)
            self._progress.update(task, advance=count)
            if note:
                self._progress.update(task, note=note)
