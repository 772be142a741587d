"""The project with tiny parameters, run once; each test works on a copy of that."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import slurm_cluster
import workflow_client
from once import made_once
from slurm_run import Cluster, Run
from workflow_project import Project, copy_project

SERVER = Path(__file__).with_name("workflow_server.py")


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Return the project as cloned, nothing run yet."""
    home = tmp_path_factory.mktemp("home")
    env = {
        # No activated environment: rules must find their `imbnas` all the same; a stage's shell needs `snakemake`.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "SHELL": "/bin/sh",
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "COLUMNS": "1000",
    }
    (home / "gitconfig").write_text("[user]\nname = test\nemail = test@example.org\n[init]\ndefaultBranch = main\n")
    path = tmp_path_factory.mktemp("fresh") / "project"
    copy_project(path)
    with _servers(env) as folder:
        project = Project(path, env, folder)
        project.shell("git", "init", "-q")
        project.commit("clone")
        yield project


@contextmanager
def _servers(env: dict[str, str]) -> Iterator[Path]:
    """Start the servers and return the directory of their sockets, and of the commands that ask them."""
    folder = Path(tempfile.mkdtemp(prefix="served-"))  # pytest's own paths are too long for a socket
    python = sys.executable
    (folder / "bin").mkdir()
    for name in workflow_client.SERVERS:
        command = folder / "bin" / name
        command.write_text(
            f"""#!/bin/sh\nexec {python} -IS {workflow_client.__file__} {folder} {python} {name} "$@"\n"""
        )
        command.chmod(0o755)
    processes = []
    for role in sorted({*workflow_client.SERVERS.values()}):
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / role))
            listening.listen()
            words = [python, str(SERVER), role, str(folder), f"{listening.fileno()}"]
            process = subprocess.Popen(
                words, stdin=subprocess.PIPE, env={**os.environ, **env}, pass_fds=[listening.fileno()]
            )
            processes.append(process)
    yield folder
    for process in processes:
        process.communicate()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def finished(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the project after one real run of all steps by Snakemake, recorded by DVC and git.

    All of xdist's workers share that run; each has a copy of its own.
    """

    def make(folder: Path) -> None:
        project = fresh.copy(folder / "project")
        # The environment is not activated: rules find their `imbnas` all the same, by what one of them shows for all.
        snakemake, first = Path(sys.executable).with_name("snakemake"), "data/source/train/info.json"
        project.shell(str(snakemake), "--cores", "2", "--", first, PATH="/usr/bin:/bin")
        project.run("snakemake", "--cores", "2")
        project.run("python", "workflow/lib/record.py")
        project.commit("results")

    original = made_once(tmp_path_factory, "finished", make) / "project"
    return Project(original, fresh.env, fresh.server).copy(tmp_path_factory.mktemp("finished") / "project")


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """Return a copy of the finished project, to be changed."""
    return finished.copy(tmp_path / "project")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Return a fresh Slurm cluster of one node with one pretended GPU, or skip where Slurm is not installed."""
    yield from _started()


@pytest.fixture
def two_nodes() -> Iterator[Cluster]:
    """Return a fresh Slurm cluster of two nodes with two pretended GPUs each, or skip where Slurm is not installed."""
    yield from _started(nodes=2, gpus=2, cpus=4)


def _started(**options: int) -> Iterator[Cluster]:
    if slurm_cluster.missing():
        pytest.skip(f"Slurm is not installed: {', '.join(slurm_cluster.missing())} not found")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # pytest's own paths are too long for a socket
    try:
        env = slurm_cluster.start(folder, **options)
        yield Cluster({**env, "PATH": f"{Path(sys.executable).parent}:{env['PATH']}"})
    finally:
        Run.kill_all()
        slurm_cluster.stop(folder)
        shutil.rmtree(folder)
