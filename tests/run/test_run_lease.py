"""GPUs are leased whole or by shares of their memory, never twice, and what a dead step had is free again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import tiny_chain
from test_run_gpus import pretend

from imbnas.errors import UserError
from imbnas.params.config import parse
from imbnas.run import gpus, lease, machine
from imbnas.run.graph import PATHS, STEPS

WIDE = {"space": {"name": "shufflenet", "stages": {"channels": [14_000] * 2, "repeats": [1, 1], "strides": [1, 2]}}}
HOLD = """
import sys
from imbnas.run import lease
with lease.leased(lambda line: print(line, flush=True), int(sys.argv[1]), float(sys.argv[2])) as name:
    import os
    assert os.environ["CUDA_VISIBLE_DEVICES"] == name.partition(" ")[0]
    print("has", name, os.environ.get("IMBNAS_GPU_MEMORY", ""), flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process that leases a device until it is told to end."""

    def __init__(self, tmp_path: Path, visible: str, count: int = 1, share: float = 1.0, **env: str) -> None:
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(count), str(share)],
            env={**os.environ, "TMPDIR": str(tmp_path), "PATH": path, "CUDA_VISIBLE_DEVICES": visible, **env},
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
    monkeypatch.setenv(gpus.VISIBLE, "0,1")
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
    monkeypatch.setenv(gpus.VISIBLE, "3,4")
    with lease.leased(print) as name:
        assert (name, os.environ[gpus.VISIBLE]) == ("3", "3")
    assert os.environ[gpus.VISIBLE] == "3,4"
    monkeypatch.setenv(gpus.VISIBLE, "")
    with lease.leased(print) as name:
        assert name is None


ONE = "0, GPU-77, 8192"
"""A workstation's only GPU, of 8 GiB, as nvidia-smi tells it."""


def test_shares_are_counted_in_memory_and_a_killed_step_s_is_free_again(tmp_path: Path) -> None:
    pretend(tmp_path, ONE)
    # Two projects, each with its own idea of a share and of the GPU's name.
    half, quarter = Holder(tmp_path, "0", share=0.5), Holder(tmp_path, "GPU-77", share=0.3)
    assert half.line() == "has 0 (4,096 of 8,192 MiB) 4096"
    assert quarter.line() == "has GPU-77 (2,457 of 8,192 MiB) 2457"
    third = Holder(tmp_path, "0", share=0.25)
    assert third.line() == "no GPU has a share of 0.25 free (0): waiting for one"
    os.kill(quarter.process.pid, signal.SIGKILL)
    quarter.process.wait()
    assert third.line() == "has 0 (2,048 of 8,192 MiB) 2048"
    for holder in (half, third):
        holder.end()
        assert holder.process.returncode == 0
    assert not list(tmp_path.glob("imbnas-gpus-*/*.share"))


def test_whole_gpus_and_shares_exclude_each_other(tmp_path: Path) -> None:
    pretend(tmp_path, ONE)
    share = Holder(tmp_path, "0", share=0.5)
    assert share.line().startswith("has 0 (")
    whole = Holder(tmp_path, "GPU-77")
    assert whole.line() == "all GPUs are leased (GPU-77): waiting for one"
    share.end()
    assert whole.line() == "has GPU-77"
    again = Holder(tmp_path, "0", share=0.5)
    assert again.line().startswith("no GPU has a share of 0.5 free")
    os.kill(whole.process.pid, signal.SIGKILL)
    whole.process.wait()
    assert again.line().startswith("has 0 (")
    again.end()


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with GPUs of 8 and of 4 GiB."""
    pretend(tmp_path, "0, GPU-77, 8192\n1, GPU-88, 4096")
    monkeypatch.setattr(lease.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(gpus.VISIBLE, "GPU-77,GPU-88")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return tmp_path


def test_a_share_is_of_the_gpu_with_most_memory_left(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        had = []
        for _ in range(4):
            had.append(stack.enter_context(lease.leased(print, 1, 0.5)))
            monkeypatch.setenv(gpus.VISIBLE, "GPU-77,GPU-88")
        assert [name.split()[0] for name in had if name] == ["GPU-77", "GPU-77", "GPU-88", "GPU-88"]
        monkeypatch.setattr(lease.time, "sleep", lambda seconds: stack.close())
        with lease.leased(print, 1, 0.5) as fifth:
            assert fifth == "GPU-77 (4,096 of 8,192 MiB)", "no room until the others ended"


def test_gpus_on_which_a_step_does_not_fit_are_passed_over(two: Path) -> None:
    params = parse(tiny_chain.changed(runtime__device="auto", **WIDE), "p")
    need = next(need.least for need in params.needs() if need.name == "space") / 2**30
    assert 1.4 < need < 3, "more than the share of the small GPU, less than that of the large one"
    check = partial(machine.check_gpu, "supernet", params)
    for _ in range(2):
        with lease.leased(print, 1, 0.5, check) as name:
            assert name == "GPU-77 (4,096 of 8,192 MiB)"
    expected = (
        r"^space has widths .* 1\.\d GiB at the least, expected at most 1\.4, "
        r"the share runtime\.gpu_share 0\.25 of GPU GPU-77$"
    )
    with pytest.raises(UserError, match=expected), lease.leased(print, 1, 0.25, check):
        pass


@pytest.mark.parametrize(
    ("visible", "share", "expected"),
    [
        ("GPU-77", 0.1, "found 0.1, 819 of 8,192 MiB of GPU GPU-77, expected at least 1,024 MiB: CUDA itself takes"),
        ("MIG-1", 0.5, "found 0.5 with GPU MIG-1, which is a share of a GPU already, expected 1"),
        ("GPU-99", 0.5, "found 0.5 with GPU GPU-99, of unknown memory to nvidia-smi, expected 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(
    two: Path, monkeypatch: pytest.MonkeyPatch, visible: str, share: float, expected: str
) -> None:
    monkeypatch.setenv(gpus.VISIBLE, visible)
    with pytest.raises(UserError, match=f"^runtime.gpu_share: {expected}"), lease.leased(print, 1, share):
        pass
    with lease.leased(print) as name:
        assert name == visible


def test_memory_that_runs_out_within_a_share_names_the_parameter(two: Path) -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    with (
        pytest.raises(UserError, match=r"^runtime.gpu_share: found 0.5, with which memory ran out on GPU GPU-77 \(4,0"),
        lease.leased(print, 1, 0.5),
    ):
        raise OutOfMemoryError("CUDA out of memory")
    assert "IMBNAS_GPU_MEMORY" not in os.environ
    with pytest.raises(OutOfMemoryError), lease.leased(print):
        raise OutOfMemoryError("of all that there is")


def test_a_step_whose_share_is_too_small_ends_before_it_trains(
    two: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "project"
    for name in STEPS["supernet"].inputs:
        (root / PATHS[name]).mkdir(parents=True)
        (root / PATHS[name] / "info.json").touch()
    assert tiny_chain.run(root, "supernet", runtime={"device": "auto", "gpu_share": 0.01}) == 2
    assert capfd.readouterr().err == (
        "error: runtime.gpu_share: found 0.01, 81 of 8,192 MiB of GPU GPU-77, expected at least 1,024 MiB: CUDA itself "
        "takes about 640\n"
    )
