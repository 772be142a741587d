"""Stands for `imbnas`, `python`, `snakemake` or `dvc` in the PATH of a served command: hands itself to the server.

A program of standard modules alone, started as `client.py SOCKETS PYTHON NAME ARGUMENTS...`: to import no more than it
needs is its purpose.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

SERVERS = {"snakemake": "tools", "dvc": "tools", "code": "tools", "imbnas": "steps", "python": "steps"}
"""Which server has imported what a command imports; `code` is the text of a program that uses Snakemake."""


def call(folder: str, argv: list[str], cwd: str, env: dict[str, str], files: list[int], forward: bool = False) -> int:
    """Have a command run in a fork of its server, on these files as standard ones, and return its exit code."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(f"{folder}/{SERVERS[argv[0]]}")
        socket.send_fds(server, [b"."], files)
        server.sendall(json.dumps({"argv": argv, "cwd": cwd, "env": env}).encode())
        server.shutdown(socket.SHUT_WR)
        with server.makefile() as answers:
            process = answers.readline()
            if forward and process:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda received, frame: os.kill(int(process), received))
            code = answers.readline()
    # No answer: the command was killed.
    return int(code) if code else 128 + signal.SIGKILL


if __name__ == "__main__":
    sockets, python, *command = sys.argv[1:]
    if command[0] == "python" and not (len(command) > 1 and "workflow/lib/" in command[1]):
        os.execv(python, [python, *command[1:]])
    sys.exit(call(sockets, command, str(Path.cwd()), dict(os.environ), [0, 1, 2], forward=True))
