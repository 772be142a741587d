"""Waiting for workers: whatever becomes of one, the step ends in one line that names the cause."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from imbnas import waiting
from imbnas.data import loading
from imbnas.data.draws import Draws
from imbnas.data.loading import Early, Made, Task, check_shared_memory, made, unchanged
from imbnas.data.sources import Arrays
from imbnas.errors import UserError
from imbnas.waiting import OverdueError, StoppedWaiting, bounded

IMAGES = np.arange(16 * 8 * 8 * 3, dtype=np.int64).astype(np.uint8).reshape(16, 8, 8, 3)


def batches(early: Early = unchanged, workers: int = 2, count: int = 9) -> Iterator[Made]:
    tasks = (Task(np.array([k, k + 1, k + 4]), k) for k in range(count))
    return made(Arrays(IMAGES, np.arange(16)), tasks, early, workers, pin=False)


def failing(what: Callable[[], object]) -> Early:
    """Return an augmentation that does `what` in the worker that has the fifth batch."""

    def early(images: Tensor, draws: Draws) -> Tensor:
        if images[0, 0, 0, 0] == IMAGES[4, 0, 0, 0]:
            what()
        return images

    return early


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # torch looks every five seconds whether a worker that does not answer is alive.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    # Where a batch is waited for, that number is the default of an argument, taken when torch was imported.
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))
    yield
    waiting.forget()


def test_workers_change_no_bit() -> None:
    alone, helped = list(batches(workers=0)), list(batches(workers=2))
    assert len(alone) == 9
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.state, other.state)
    assert list(batches(workers=2, count=0)) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS, signal.SIGSEGV])
def test_a_worker_that_is_killed_is_named(number: signal.Signals) -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    expected = rf"^runtime.workers: a worker that makes batches ended by {number.name}.*, expected it to live"
    with pytest.raises(UserError, match=expected):
        list(batches(failing(lambda: os.kill(os.getpid(), number))))
    assert signal.getsignal(signal.SIGCHLD) == handler, "torch's handler raises anywhere"


def test_a_worker_that_leaves_is_named() -> None:
    with pytest.raises(UserError, match="ended with code 7, expected it to live"):
        list(batches(failing(lambda: os._exit(7))))


@pytest.mark.parametrize("stop", ["sleep", "stopped"])
def test_a_worker_that_hangs_has_a_deadline(stop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "DEADLINE_SECONDS", 1.0)
    hang = {"sleep": lambda: time.sleep(1e6), "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP)}[stop]
    with pytest.raises(UserError, match="no batch came from the workers within 1 s, expected one"):
        list(batches(failing(hang), workers=1))


def test_a_request_to_stop_is_heard_while_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HURRY_SECONDS", 0.2)
    before = signal.signal(signal.SIGTERM, lambda number, frame: waiting.hurry())
    try:
        parent = os.getpid()

        def hang() -> None:
            os.kill(parent, signal.SIGTERM)
            time.sleep(1e6)

        with pytest.raises(StoppedWaiting):
            list(batches(failing(hang), workers=1))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_wait_in_time_leaves_no_alarm() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with bounded(100.0):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == handler
    with pytest.raises(OverdueError), bounded(0.01):
        time.sleep(100)


@pytest.mark.parametrize(("free", "fits"), [(5 * 1000 - 1, False), (5 * 1000, True)])
def test_what_is_wanted_of_shared_memory_is_compared_beforehand(
    free: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.os, "statvfs", lambda path: SimpleNamespace(f_bavail=free, f_frsize=1))
    if fits:
        check_shared_memory(1000, 2)
        return
    with pytest.raises(UserError) as refusal:
        check_shared_memory(1000, 2)
    assert str(refusal.value) == (
        "runtime.workers: found 4,999 bytes free in /dev/shm for 2 workers, expected 5,000 bytes: set runtime.workers: "
        "0, or give the container more (--shm-size)"
    )


SMALL = """
import numpy as np
from imbnas.data import loading
from imbnas.data.sources import Arrays
from imbnas.errors import UserError

images = np.zeros((8, 200, 200, 3), np.uint8)
tasks = [loading.Task(np.arange(8), k) for k in range(9)]
source = Arrays(images, np.arange(8))
def attempt(workers):
    try:
        print(len(list(loading.made(source, tasks, loading.unchanged, workers, False))))
    except UserError as error:
        print(error)
attempt(0)
attempt(2)
loading.check_shared_memory = lambda batch, workers: None
attempt(2)
"""


def test_a_small_shared_memory_is_named() -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"]
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", *mount], capture_output=True).returncode:
        pytest.skip("no file system can be mounted in a mount namespace of one's own")
    inner = f'{" ".join(mount)} && exec "$@"'
    script = [sys.executable, "-c", SMALL]
    done = subprocess.run(["unshare", "-m", "sh", "-c", inner, "sh", *script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    without, checked, unchecked = done.stdout.splitlines()
    assert without == "9"
    assert checked.startswith("runtime.workers: found 1.00 MiB free in /dev/shm for 2 workers, expected 4.58 MiB: set ")
    assert unchecked.startswith("runtime.workers: a batch of 960,000 bytes does not fit into /dev/shm (")
