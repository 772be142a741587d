"""GPUs are leased one by one: no two steps on one device, and a dead step's device is free again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imbnas.errors import UserError
from imbnas.run import lease

HOLD = """
import sys
from imbnas.run import lease
with lease.leased(lambda line: print(line, flush=True), int(sys.argv[1])) as name:
    import os
    assert os.environ["CUDA_VISIBLE_DEVICES"] == name
    print("has", name, flush=True)
    sys.stdin.read()
"""
LISTED = """\
GPU 0: NVIDIA A100 (UUID: GPU-5d5ba0d6)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8)
GPU 1: NVIDIA A100 (UUID: GPU-8a8b9c0d)
"""


class Holder:
    """Another process that leases a device until it is told to end."""

    def __init__(self, tmp_path: Path, visible: str, count: int = 1, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(count)],
            env={**os.environ, "TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": visible, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate("")


def test_parallel_steps_get_devices_of_their_own_and_wait_for_one(tmp_path: Path) -> None:
    first, second = (Holder(tmp_path, "2,GPU-5d5ba0d6") for _ in range(2))
    assert sorted([first.line(), second.line()]) == ["has 2", "has GPU-5d5ba0d6"]
    third = Holder(tmp_path, "2,GPU-5d5ba0d6")
    assert third.line() == "all GPUs are leased (2, GPU-5d5ba0d6): waiting for one"
    os.kill(second.process.pid, signal.SIGKILL)
    second.process.wait()
    assert third.line().startswith("has ")
    for holder in (first, third):
        holder.end()
        assert holder.process.returncode == 0


def test_a_step_waits_for_several_devices_without_keeping_any(tmp_path: Path) -> None:
    first = Holder(tmp_path, "0,1,2")
    assert first.line() == "has 0"
    whole = Holder(tmp_path, "0,1,2", 3)
    assert whole.line() == "too many GPUs are leased (0, 1, 2): waiting for 3"
    pair = Holder(tmp_path, "0,1,2", 2)
    # The one that waits for three may hold them for a moment, while it looks.
    while not (line := pair.line()).startswith("has"):
        assert line == "too many GPUs are leased (0, 1, 2): waiting for 2"
    assert line == "has 1,2"
    pair.end()
    first.end()
    assert whole.line() == "has 0,1,2"
    whole.end()


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lease.VISIBLE, "0,1")
    expected = "runtime.processes: found 4 where there are 2 GPUs, expected at most that many"
    with pytest.raises(UserError, match=expected), lease.leased(print, 4):
        pass


def test_jobs_of_slurm_use_what_they_were_given(tmp_path: Path) -> None:
    # Where Slurm confines a job to its device, that is number 0 in each of them.
    holders = [Holder(tmp_path, "0", SLURM_JOB_ID=job) for job in ("7", "8")]
    assert [holder.line() for holder in holders] == ["has 0", "has 0"]
    for holder in holders:
        holder.end()


def test_the_environment_is_as_before_when_the_step_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv(lease.VISIBLE, "3,4")
    with lease.leased(print) as name:
        assert (name, os.environ[lease.VISIBLE]) == ("3", "3")
    assert os.environ[lease.VISIBLE] == "3,4"
    monkeypatch.setenv(lease.VISIBLE, "")
    with lease.leased(print) as name:
        assert name is None


@pytest.mark.parametrize(
    ("visible", "names"),
    [("0,1", ["0", "1"]), (" GPU-a , 3", ["GPU-a", "3"]), ("", []), ("-1", []), ("0,-1,2", ["0"]), ("NoDevFiles", [])],
)
def test_the_list_of_devices_is_read_as_cuda_does(
    monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    monkeypatch.setenv(lease.VISIBLE, visible)
    assert lease.devices() == names


def test_without_a_list_nvidia_smi_names_the_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lease.parse(LISTED) == ["MIG-c6d4f1ef", "MIG-cba663e8", "GPU-8a8b9c0d"]
    monkeypatch.delenv(lease.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lease.devices() == []
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA T4 (UUID: GPU-77)'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert lease.devices() == ["GPU-77"]
