"""Runs `snakemake` and `dvc` command lines in forks of a process that has imported both: an import takes seconds.

Reads one JSON object a line from standard input: {"argv": [...], "cwd": ..., "env": {...}}; answers with one
{"code": ..., "output": ...}. Each command runs in a fork of its own, through the tool's own entry point.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import dvc.cli
import pandas  # noqa: F401  (snakemake imports it for the first rule with parameters)
import snakemake.cli


def run(argv: list[str], cwd: str, env: dict[str, str], file: int) -> None:
    """Become the command; never returns."""
    code = 1
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = [str(Path(sys.executable).with_name(argv[0])), *argv[1:]]
        main = {"snakemake": snakemake.cli.main, "dvc": dvc.cli.main}[argv[0]]
        code = main(argv[1:])
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


for line in sys.stdin:
    request = json.loads(line)
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            run(**request, file=output.fileno())
        _, status = os.waitpid(child, 0)
        output.seek(0)
        answer = {"code": os.waitstatus_to_exitcode(status), "output": output.read().decode(errors="replace")}
    print(json.dumps(answer), flush=True)
