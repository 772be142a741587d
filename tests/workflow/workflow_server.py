"""Runs commands in forks of a process that has imported what they import, which takes seconds.

`workflow_server.py tools FOLDER SOCKET` serves `snakemake` and `dvc`, `steps` serves `imbnas` and the scripts of
workflow/lib; SOCKET is the descriptor of a listening socket. Each command runs in a fork of its own, through the tool's
own entry point and with the code of the project that it runs in: nothing of the package is imported before. What a
served command starts is served too, see `workflow_client.py`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

IMPORTED = {
    # With what both import only when they have something to do.
    "tools": (
        *("snakemake.cli", "snakemake.profiles", "snakemake.report.html_reporter", "snakemake.storage", "smart_open"),
        *(
            "dvc.cli.parser",
            "dvc.repo.open_repo",
            "dvc.repo.experiments",
            "dvc.stage.cache",
            "dvc.rwlock",
            "dvc.repo.plots",
        ),
        *("dvc.utils.strictyaml", "scmrepo.git", "ruamel.yaml", "pyparsing", "rich.text", "pandas"),
    ),
    "steps": (
        *("torch", "torchvision", "pandas", "pyarrow.parquet", "pyarrow.dataset", "safetensors.torch", "scipy.special"),
        *("matplotlib.pyplot", "matplotlib.backends.backend_svg", "optuna", "pydantic.main", "rich.console", "typer"),
        *("yaml", "PIL.PngImagePlugin", "sklearn.datasets"),
    ),
}


def serve(role: str, folder: Path, listening: socket.socket) -> None:
    """Answer until standard input ends."""
    ready = False
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        if not ready:  # not before something is asked of it
            for name in IMPORTED[role]:
                importlib.import_module(name)
            gc.freeze()  # a fork's collector passes over what was imported, and leaves those pages shared
            ready = True
        if os.fork() == 0:
            listening.close()
            become(connection, folder)
        connection.close()
        while _ended():
            pass


def _ended() -> bool:
    """Reap a fork that has ended, if there is one."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def become(connection: socket.socket, folder: Path) -> None:
    """Read what is asked, do it and answer with the exit code; never returns."""
    code = 1
    try:
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        with connection.makefile() as stream:
            request = json.loads(stream.read())
        connection.sendall(f"{os.getpid()}\n".encode())
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        code = _run(folder=folder, **request)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            connection.sendall(f"{code or 0}\n".encode())
        finally:
            os._exit(code or 0)


def _run(argv: list[str], cwd: str, env: dict[str, str], folder: Path) -> Any:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    os.environ["PATH"] = os.pathsep.join([str(folder / "bin"), env.get("PATH", os.defpath)])
    sys.path[:] = [*filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
    sys.dont_write_bytecode = bool(env.get("PYTHONDONTWRITEBYTECODE"))
    name, *rest = argv
    if name == "python":
        sys.argv = rest
        sys.path.insert(0, str(Path(rest[0]).resolve().parent))
        runpy.run_path(rest[0], run_name="__main__")
        return 0
    sys.argv = [str(Path(sys.executable).with_name(name)), *rest]
    if name == "imbnas":
        return importlib.import_module("imbnas.cli").main()
    # Where Snakemake's own interpreter lies its rules find their commands.
    sys.executable = str(folder / "bin/python")
    if name == "code":
        exec(rest[0], {"__name__": "__main__"})
        return 0
    return importlib.import_module(f"{name}.cli").main(rest)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), socket.socket(fileno=int(sys.argv[3])))
