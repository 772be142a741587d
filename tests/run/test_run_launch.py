"""The processes of a training end together, as the step should end; no torch here, they are small scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from imbnas.progress import Log
from imbnas.run import launch
from imbnas.training import RENDEZVOUS

HEAD = "import os, signal, sys, time\nrank = int(os.environ['RANK'])\n"


def run(tmp_path: Path, script: str, processes: int = 3) -> tuple[int, str]:
    log = tmp_path / "log"
    code = launch.run([sys.executable, "-c", HEAD + textwrap.dedent(script)], processes, Log("supernet", log))
    return code, log.read_text()


def test_each_process_is_told_its_place(tmp_path: Path) -> None:
    script = """
    places = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", %r)]
    open(f"{sys.argv[1]}/{rank}", "w").write(" ".join(places))
    """
    command = [sys.executable, "-c", HEAD + textwrap.dedent(script % RENDEZVOUS), str(tmp_path)]
    assert launch.run(command, 3, Log("supernet")) == 0
    found = [(tmp_path / f"{rank}").read_text().split() for rank in range(3)]
    assert [words[:4] for words in found] == [[f"{rank}", f"{rank}", "3", "3"] for rank in range(3)]
    assert len({words[4] for words in found}) == 1
    assert not Path(found[0][4]).parent.exists(), "nothing is left behind"


def test_bad_input_that_another_process_found_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = """
    if rank == 2:
        print("error: x.png: not an image", file=sys.stderr)
    sys.exit(2 if rank == 2 else 3)
    """
    code, log = run(tmp_path, script)
    assert code == 2
    assert capfd.readouterr().err == "error: x.png: not an image\n"
    assert log.count("error: x.png: not an image") == 1
    same = "print('error: the loss is nan', file=sys.stderr); sys.exit(2)"
    assert run(tmp_path, same)[0] == 2
    assert capfd.readouterr().err == "error: the loss is nan\n"


def test_a_process_that_dies_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.2)
    script = """
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
    """
    code, log = run(tmp_path, script)
    assert code == 1
    assert "process 2 of 3 ended by signal 9" in log


def test_a_signal_reaches_all_and_the_step_counts_as_stopped(tmp_path: Path) -> None:
    script = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    open(f"{sys.argv[1]}/{rank}", "w").close()
    if rank == 0:
        while len(os.listdir(sys.argv[1])) < 3:
            time.sleep(0.01)
        os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(600)
    """
    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / "there").mkdir()
    command = [sys.executable, "-c", HEAD + textwrap.dedent(script), str(tmp_path / "there")]
    assert launch.run(command, 3, Log("supernet")) == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_processes_end_with_their_launcher_however_it_ends(tmp_path: Path) -> None:
    child = "from imbnas.run.launch import follow_launcher; follow_launcher(); import os, sys, time\n"
    child += "open(f'{sys.argv[1]}/' + str(os.getpid()), 'w').close(); time.sleep(600)"
    parent = "import sys; from imbnas.run import launch; from imbnas.progress import Log\n"
    parent += "launch.run([sys.executable, '-c', sys.argv[1], sys.argv[2]], 2, Log('x'))"
    launcher = subprocess.Popen([sys.executable, "-c", parent, child, str(tmp_path)])
    until = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    processes = [int(file.name) for file in tmp_path.iterdir()]
    assert len(processes) == 2
    launcher.kill()
    launcher.wait()
    while any(alive(process) for process in processes) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(alive(process) for process in processes)


def alive(process: int) -> bool:
    """Say whether a process runs; one that has ended but that nobody waits for does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
