#!/usr/bin/env python3
"""Starts and stops a throw-away Slurm cluster with pretended GPUs, in a directory, for tests and tries.

    eval "$(tests/workflow/slurm_cluster.py start DIR)"    # prints the environment of Slurm's commands
    sinfo; srun --gpus=1 env | grep CUDA
    tests/workflow/slurm_cluster.py stop DIR

Needs the programs of Debian's packages slurmctld, slurmd, slurm-client and munge, and nothing that runs beforehand:
daemons and jobs run as the user who starts them, root or not, and several clusters stand side by side. It has one node
unless told otherwise; more are daemons of their own on this machine, each with the same CPUs and GPUs. There is no
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
from contextlib import ExitStack
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
# cred_expire is also how long a requeued job waits before it starts again: 120 s unless set. A node that takes
# longer to launch a job refuses it, and a busy machine may stand still for seconds.
AuthInfo=socket={folder}/munge.sock,cred_expire=20
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
# Of pages that a process shares with those that it forked, each is charged with its part, as by a control group.
JobAcctGatherParams=UsePss,OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
ReturnToService=2
# Let a node have more CPUs than the machine.
SlurmdParameters=config_overrides
EnforcePartLimits=ALL
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=600
KillWait=10
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=2
GresTypes=gpu
{lines}
PartitionName=main Nodes={names} Default=YES PriorityTier=5 PreemptMode=OFF
PartitionName=low  Nodes={names} PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes={names} PriorityTier=10 PreemptMode=OFF
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Boards=1 SocketsPerBoard=1 "
    "CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={memory} Gres=gpu:fake:{gpus}"
)


def missing() -> list[str]:
    """Return the programs that are needed and not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=PATH)]


def start(folder: Path, gpus: int = 1, cpus: int | None = None, nodes: int = 1) -> dict[str, str]:
    """Start a cluster in `folder` and return what its clients need in their environment.

    Each of the nodes has `gpus` and `cpus`. RuntimeError with the daemons' last words when they are not idle after 20
    seconds.
    """
    folder = folder.resolve()
    for part in (folder, folder / "state", folder / "bin"):
        part.mkdir(parents=True, exist_ok=True)
        part.chmod(0o755)  # munge refuses directories that others may write to
    if len(f"{folder}/munge.sock") > 100:
        raise RuntimeError(f"{folder}: too long for a socket's path, expected at most 90 characters")
    names = _configure(folder, gpus, cpus or os.cpu_count() or 1, nodes)
    env = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{folder}/bin:{PATH}"}
    everything = {**os.environ, **env}
    _run(
        "munged", "--num-threads=2", *(f"--{name}={folder}/munge.{end}" for name, end in MUNGE.items()), env=everything
    )
    _run("slurmctld", env=everything)
    for name in names:
        _run("slurmd", "-N", name, env=everything)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], env=everything, stdout=-1, stderr=-3, text=True, check=False
        )
        if set(state.stdout.split()) == {"idle"}:
            return env
        time.sleep(0.1)
    logs = [folder / "slurmctld.log", *(folder / f"slurmd-{name}.log" for name in names)]
    words = "\n".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())
    stop(folder)
    raise RuntimeError(f"the nodes in {folder} are not idle:\n{words}")


MUNGE = {"socket": "sock", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def stop(folder: Path) -> None:
    """Cancel all jobs and stop the daemons; a folder without any is fine."""
    folder = folder.resolve()
    env = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf", "PATH": PATH}
    for command in (["scancel", "-u", getpass.getuser()], ["scontrol", "shutdown"]):
        if (folder / "slurmctld.pid").exists():
            subprocess.run(command, env=env, stdout=-3, stderr=-3, timeout=30, check=False)
    for file in (folder / "slurmctld.pid", *folder.glob("slurmd-*.pid"), folder / "munge.pid"):
        _end(file, 0.0 if file.name == "munge.pid" else 5.0)


def _configure(folder: Path, gpus: int, cpus: int, nodes: int) -> list[str]:
    """Write the files that the daemons read, and return the names of the nodes."""
    key = folder / "munge.key"
    if not key.exists():
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
    lines = [f"Name=gpu Type=fake File={device}\n" for device in DEVICES[:gpus]]
    (folder / "gres.conf").write_text("".join(lines))
    ports = _ports(1 + nodes)
    host = socket.gethostname().split(".")[0]
    # Jobs may look for the one node by its name; of several nodes on one machine no name but the machine's is known.
    names = [host] if nodes == 1 else [f"n{number}" for number in range(1, nodes + 1)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10 // 2**20
    each = {"host": host, "cpus": cpus, "gpus": gpus, "memory": memory}
    stated = [NODE.format(name=name, port=port, **each) for name, port in zip(names, ports[1:], strict=True)]
    values = {"folder": folder, "ports": ports, "host": host, "user": getpass.getuser()}
    (folder / "slurm.conf").write_text(CONF.format(**values, lines="\n".join(stated), names=",".join(names)))
    # Snakemake's Slurm plugin takes SLURM_CONF away from the srun within its jobs, which then looks in /etc/slurm.
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun", path=PATH)} "$@"\n')
    srun.chmod(0o755)
    return names


def _ports(count: int) -> list[int]:
    """Return ports that are free, all drawn before one is given back."""
    with ExitStack() as stack:
        places = [stack.enter_context(socket.socket()) for _ in range(count)]
        for place in places:
            place.bind(("127.0.0.1", 0))
        return [place.getsockname()[1] for place in places]


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
    parser.add_argument(
        "--gpus", type=int, default=1, help=f"pretended GPUs of a node, at most {len(DEVICES)} (default: 1)"
    )
    parser.add_argument("--cpus", type=int, help="CPUs of a node (default: the machine's)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes, all on this machine (default: 1)")
    given = parser.parse_args()
    if missing():
        print(f"error: not installed: {', '.join(missing())}", file=sys.stderr)
        return 2
    if given.command == "stop":
        stop(given.folder)
        return 0
    try:
        for name, value in start(given.folder, given.gpus, given.cpus, given.nodes).items():
            print(f"export {name}='{value}'")
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
