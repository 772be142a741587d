"""Steps of the chain on a truth table's rows, each done once for all variants that have it alike.

Several processes may work at the same time: where two need the same step, one runs it and the other waits.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imbnas.files import canonical_json, digest_bytes, read_json
from imbnas.params.config import Params
from imbnas.run.graph import PATHS, cost_details
from imbnas.run.runner import run_step
from imbnas.sealed import DamagedError, read_record

Tree = dict[str, Any]


class SharedSteps:
    """The steps below a directory, whose names hold digests of all that decides what lies there."""

    def __init__(self, project: Path, root: Path, made: Any) -> None:
        """Take the project's directory, the one of the steps, and what decides the results of all of them."""
        self.project, self.root, self._made = project, root, made

    def digest(self, *own: object) -> str:
        """Return the digest of some values with what decides the results of all steps."""
        return digest_bytes(canonical_json([self._made, *own]).encode())[:12]

    def folder(self, step: str, params: Params, seed: int, *read: object) -> Path:
        """Return the directory of a step that several variants may have alike; `read` names what it reads."""
        view = params.view(step).model_dump_json(by_alias=True)
        return self.root / f"{step}-{self.digest(view, *read)}" / str(seed)

    def run(self, step: str, params: Params, folder: Path, outputs: Sequence[str], files: Mapping[str, Path]) -> float:
        """Run a step unless it is done, its outputs in `folder`; return its seconds, stopped attempts included."""
        cost = folder / f"{step}-cost.json"
        if not cost_details(cost).exists():
            with turn(folder / f"{step}.lock"):
                if not cost_details(cost).exists():
                    moved = {**files, "cost": cost}
                    moved |= {name: folder / Path(PATHS[name]).name for name in outputs}
                    code = run_step(step, params, self.project, moved, folder / f"{step}.log")
                    if code:
                        # The step has told why.
                        raise SystemExit(code)
        spent = read_json(cost_details(cost), "the cost of a step")
        return float(spent["steps"][step]["seconds"])


@contextmanager
def turn(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path`, which the kernel frees for a process that dies; False where another one has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def kept_record(file: Path) -> Tree | None:
    """Return what an earlier call has sealed; None where there is nothing, or nothing whole."""
    try:
        return read_record(file)
    except (FileNotFoundError, DamagedError):
        return None
