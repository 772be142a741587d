#!/usr/bin/env python3
"""Starts and stops a throw-away Slurm cluster of one node with pretended GPUs, in a directory, for tests and tries.

    eval "$(tests/workflow/slurm_cluster.py start DIR)"    # prints the environment of Slurm's commands
    sinfo; srun --gpus=1 env | grep CUDA
    tests/workflow/slurm_cluster.py stop DIR

Needs the programs of Debian's packages slurmctld, slurmd, slurm-client and munge, and nothing that runs beforehand:
daemons and jobs run as the user who starts them, root or not, and several clusters stand side by side. There is no
accounting. Partitions: `main` (the default), `low`, whose jobs are preempted and queued again, and `high`, whose jobs
preempt those of `low`.
"""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol")
# A pretended GPU must be a device file: with a regular one CUDA_VISIBLE_DEVICES is not set.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
CONF = """\
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also how long a requeued job waits before it starts again: 120 s unless set.
AuthInfo=socket={folder}/munge.sock,cred_expire=5
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
ReturnToService=2
# Let the node have more CPUs than the machine.
SlurmdParameters=config_overrides
EnforcePartLimits=ALL
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=600
KillWait=10
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} \
ThreadsPerCore=1 RealMemory={memory} Gres=gpu:fake:{gpus}
PartitionName=main Nodes={host} Default=YES PriorityTier=5 PreemptMode=OFF
PartitionName=low  Nodes={host} PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF
"""


def missing() -> list[str]:
    """Return the programs that are needed and not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=PATH)]


def start(folder: Path, gpus: int = 1, cpus: int | None = None) -> dict[str, str]:
    """Start a cluster in `folder` and return what its clients need in their environment.

    RuntimeError with the daemons' last words when its node is not idle after 20 seconds.
    """
    folder = folder.resolve()
    for part in (folder, folder / "state", folder / "spool", folder / "bin"):
        part.mkdir(parents=True, exist_ok=True)
        part.chmod(0o755)  # munge refuses directories that others may write to
    if len(f"{folder}/munge.sock") > 100:
        raise RuntimeError(f"{folder}: too long for a socket's path, expected at most 90 characters")
    _configure(folder, gpus, cpus or os.cpu_count() or 1)
    env = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{folder}/bin:{PATH}"}
    everything = {**os.environ, **env}
    _run(
        "munged", "--num-threads=2", *(f"--{name}={folder}/munge.{end}" for name, end in MUNGE.items()), env=everything
    )
    _run("slurmctld", env=everything)
    _run("slurmd", "-N", socket.gethostname().split(".")[0], env=everything)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], env=everything, stdout=-1, stderr=-3, text=True, check=False
        )
        if state.stdout.split() and set(state.stdout.split()) == {"idle"}:
            return env
        time.sleep(0.1)
    words = "\n".join((folder / name).read_text(errors="replace")[-2000:] for name in ("slurmctld.log", "slurmd.log"))
    stop(folder)
    raise RuntimeError(f"the node in {folder} is not idle:\n{words}")


MUNGE = {"socket": "sock", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def stop(folder: Path) -> None:
    """Cancel all jobs and stop the daemons; a folder without any is fine."""
    folder = folder.resolve()
    env = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf", "PATH": PATH}
    for command in (["scancel", "-u", getpass.getuser()], ["scontrol", "shutdown"]):
        if (folder / "slurmctld.pid").exists():
            subprocess.run(command, env=env, stdout=-3, stderr=-3, timeout=30, check=False)
    for name, patience in (("slurmctld", 5.0), ("slurmd", 5.0), ("munge", 0.0)):
        _end(folder / f"{name}.pid", patience)


def _configure(folder: Path, gpus: int, cpus: int) -> None:
    key = folder / "munge.key"
    if not key.exists():
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
    lines = [f"Name=gpu Type=fake File={device}\n" for device in DEVICES[:gpus]]
    (folder / "gres.conf").write_text("".join(lines))
    with socket.socket() as first, socket.socket() as second:
        ports = []
        for place in (first, second):
            place.bind(("127.0.0.1", 0))
            ports.append(place.getsockname()[1])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10 // 2**20
    host = socket.gethostname().split(".")[0]
    values = {"folder": folder, "ports": ports, "host": host, "user": getpass.getuser()}
    (folder / "slurm.conf").write_text(CONF.format(**values, cpus=cpus, memory=memory, gpus=gpus))
    # Snakemake's Slurm plugin takes SLURM_CONF away from the srun within its jobs, which then looks in /etc/slurm.
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun", path=PATH)} "$@"\n')
    srun.chmod(0o755)


def _run(*command: str, env: dict[str, str]) -> None:
    subprocess.run(command, env=env, check=True, stdin=-3, stdout=sys.stderr, stderr=sys.stderr, timeout=30)


def _end(pid_file: Path, patience: float) -> None:
    """End the daemon of a pid file: wait for it, then ask it, then force it."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return
    for number, seconds in ((0, patience), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
        deadline = time.monotonic() + seconds
        try:
            os.kill(pid, number)
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            break
    pid_file.unlink(missing_ok=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["start", "stop"])
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--gpus", type=int, default=1, help=f"pretended GPUs, at most {len(DEVICES)} (default: 1)")
    parser.add_argument("--cpus", type=int, help="CPUs of the node (default: the machine's)")
    given = parser.parse_args()
    if missing():
        print(f"error: not installed: {', '.join(missing())}", file=sys.stderr)
        return 2
    if given.command == "stop":
        stop(given.folder)
        return 0
    try:
        for name, value in start(given.folder, given.gpus, given.cpus).items():
            print(f"export {name}='{value}'")
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
