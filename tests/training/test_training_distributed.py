"""Several processes train as one does: the same losses, paths and weights; and they stop, fail and go on together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed_worker
import pytest
import tiny_chain
import torch
from torch import nn

from imbnas.files import write_bytes
from imbnas.training.checkpoint import load_weights
from imbnas.training.ranks import _order, _own

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 240
"""Seconds that nothing here takes on a machine that does anything else at all."""


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what one process has noted, and what each of two."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    script = Path(distributed_worker.__file__)
    dtype = torch.get_default_dtype()
    with subprocess.Popen([sys.executable, str(script), str(folders[1]), "2"], start_new_session=True) as two:
        try:
            distributed_worker.main(folders[0])
            assert two.wait(LIMIT) == 0
        finally:
            torch.set_default_dtype(dtype)
            if two.poll() is None:
                os.killpg(two.pid, signal.SIGKILL)
    files = [folders[0] / "0.pt", folders[1] / "0.pt", folders[1] / "1.pt"]
    return [torch.load(file, weights_only=True) for file in files]


TRAININGS = ["weighted", "seesaw", "seql", "policy", "remix", "single", "mixture", "twins", "branches"]


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one_does(noted: list[dict[str, Any]], name: str) -> None:
    one, first, second = (found[name] for found in noted)
    assert len(set(one["losses"])) > 3
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-12)
    assert first["losses"] == second["losses"]
    assert first["paths"] == second["paths"] == one["paths"]
    for key, value in one["weights"].items():
        assert torch.equal(first["weights"][key], second["weights"][key]), key
        torch.testing.assert_close(first["weights"][key], value, rtol=1e-10, atol=1e-12)


def test_the_cases_are_those_that_could_go_wrong(noted: list[dict[str, Any]]) -> None:
    assert list(noted[0]) == TRAININGS
    # A mean over each half would weigh the rows of the uneven batches and the classes' weights otherwise.
    assert [len(_own(7, 1, rank, 2)) for rank in (0, 1)] == [4, 3]
    assert len(noted[0]["weighted"]["paths"][0]) == 4
    assert len({tuple(paths) for paths in noted[0]["weighted"]["paths"]}) == 6


def test_each_process_decodes_its_share_of_the_files(noted: list[dict[str, Any]]) -> None:
    assert [found["seesaw"]["decoded"] for found in noted] == [40, 22, 18]


def test_each_process_applies_the_policy_to_its_share(noted: list[dict[str, Any]]) -> None:
    assert [found["policy"]["decoded"] for found in noted] == [40, 22, 18]


@pytest.mark.parametrize(("rows", "parts", "count"), [(7, 1, 2), (2, 1, 3), (12, 2, 4), (10, 2, 4), (0, 1, 2)])
def test_every_row_has_one_process_and_comes_back_to_its_place(rows: int, parts: int, count: int) -> None:
    own = [_own(rows, parts, rank, count) for rank in range(count)]
    assert sorted(torch.cat(own).tolist()) == list(range(rows))
    longest = max(map(len, own))
    padded = torch.stack([nn.functional.pad(places, (0, longest - len(places)), value=-1) for places in own])
    assert padded.flatten()[_order(rows, parts, count)].tolist() == list(range(rows))
    for places in own:
        assert [int((places // max(1, rows // parts) == part).sum()) for part in range(parts)] == (
            [len(places) // parts] * parts
        )


SUPERNET: dict[str, Any] = {
    "runtime__processes": 2,
    "runtime__state_interval": 0.0,
    "supernet__epochs": 4,
    "supernet__sampling": "uniform",
}


@pytest.fixture
def project(chain: Path, tmp_path: Path) -> Path:
    """Return a project in which a supernet's training in two processes is all that is left to do."""
    root = tiny_chain.copy(chain, tmp_path / "project")
    (root / "models/supernet.safetensors").unlink()
    (root / "params.json").write_text(json.dumps(tiny_chain.changed(**SUPERNET)))
    return root


def command(root: Path, step: str = "supernet") -> list[str]:
    return [
        step,
        "--config",
        str(root / "params.json"),
        "--root",
        str(root),
        "--log",
        str(root / "log"),
    ]


@contextmanager
def started(root: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "imbnas.cli", *command(root)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(happened: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Return what `happened` returns once it is true."""
    end = time.monotonic() + LIMIT
    while not (found := happened()):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)
    return found


def states(root: Path) -> list[float]:
    return [file.stat().st_mtime_ns for file in (root / ".imbnas/resume/supernet").glob("*.supernet.pt")]


def ranks(launcher: int) -> list[int]:
    """Return the launcher's processes in the order of their ranks."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == launcher:
                environment = (folder / "environ").read_bytes().split(b"\0")
                found[next(word for word in environment if word.startswith(b"RANK="))] = int(folder.name)
        except (OSError, StopIteration):
            continue
    return [found[key] for key in sorted(found)]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_killed_and_stopped_processes_go_on_to_the_same_bytes(project: Path, tmp_path: Path) -> None:
    with started(project) as process:
        until(lambda: states(project), process)
        os.kill(ranks(process.pid)[1], signal.SIGKILL)
        assert process.wait(LIMIT) == 1, "the first process does not wait for the dead one"
        assert process.stderr is not None
        assert "process 2 of 2 ended by signal 9" in process.stderr.read()
    before = states(project)

    with started(project) as process:
        until(lambda: states(project) != before, process)
        process.terminate()
        assert process.wait(LIMIT) == 143
    assert not (project / "models/supernet.safetensors").exists()

    # Taken up by torchrun, in what takes itself for a job of one node.
    job = {
        "SLURM_JOB_ID": f"{os.getpid()}",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_JOB_NODELIST": "one",
    }
    tools = tmp_path / "tools"
    for name, script in (("scontrol", "echo localhost"), ("srun", 'exec "$@"')):
        write_bytes(tools / name, f"#!/bin/sh\n{script}\n".encode())
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    words = ["sh", str(ROOT / "slurm/torchrun.sh"), *command(project)]
    subprocess.run(words, env={**os.environ, **job, "PATH": path}, cwd=tmp_path, check=True, timeout=LIMIT)
    log = (project / "log").read_text()
    assert log.count("goes on from optimiser step") == 2
    assert log.count("epoch 4 of 4") == 1
    resumed = tiny_chain.digests(project, "supernet")
    cost = json.loads((project / "results/cost-details.json").read_text())["steps"]["supernet"]
    assert cost["attempts"] == 3
    assert list((project / ".imbnas/resume/supernet").iterdir()) == []

    # Uninterrupted, from this process.
    (project / "models/supernet.safetensors").unlink()
    assert tiny_chain.run(project, "supernet", **SUPERNET) == 0
    assert tiny_chain.digests(project, "supernet") == resumed


def test_both_stages_of_the_final_training_share_batches_too(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    changes: dict[str, Any] = {
        "retrain__epochs": 1,
        "retrain__references": False,
        "retrain__head": {"name": "crt", "epochs": 1},
    }
    found = []
    for processes in (1, 2):
        assert tiny_chain.run(root, "retrain", runtime__processes=processes, **changes) == 0
        found.append(load_weights(root / "models/final.safetensors")[0])
    one, two = found
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-2, atol=1e-3, msg=key)
    for part in ("blocks", "head"):
        assert any(not torch.equal(two[key], one[key]) for key in one if key.startswith(part)), "two have trained"


def test_a_process_that_finds_another_number_of_them_says_so(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "3")):
        monkeypatch.setenv(name, value)
    assert tiny_chain.run(root, "supernet", runtime__processes=2) == 2
    assert "runtime.processes: found 2 where 3 were started, expected 3" in capfd.readouterr().err


def test_more_processes_than_gpus_are_refused_before_anything_starts(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert tiny_chain.run(root, "supernet", runtime__processes=4, runtime__device="cuda") == 2
    error = "error: runtime.processes: found 4 where there are 2 GPUs, expected at most that many\n"
    assert capfd.readouterr().err == error
