"""The jobs of a study, run in this process: those that `snakemake study` would run, in the same places.

Studies of one directory share jobs, by their digests. Several processes may work on them at the same time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared_steps import turn

from imbnas.files import read_json
from imbnas.params.config import Params
from imbnas.run.graph import STEPS, cost_details
from imbnas.run.runner import run_step
from imbnas.study.plan import FOLDER, cells, cost_file, levels, planned

Tree = dict[str, Any]


class Jobs:
    """A study's jobs below a project's directory."""

    def __init__(self, root: Path, params: Params, name: str) -> None:
        """Take the directory, the parameters with `study.axes`, and what names them in messages."""
        self.root, self.params = root, params
        self.cells = cells(params, name)
        self.levels = levels(params)
        self.plan = planned(params, name, self.cells)

    def file(self, cell: int, name: str) -> Path:
        """Return where a cell's file of the chain lies, by its name in the graph."""
        return self.root / self.plan.place(name, cell)

    def run(self, cell: int, last: str = "evaluate") -> None:
        """Run a cell's jobs up to a step; what is done is passed over."""
        for step in self._up_to(last):
            self._job(step, cell)

    def begin(self, cell: int, last: str = "evaluate") -> bool:
        """Do the same unless another process is at work on this cell's last job: then return False at once."""
        if self.done(cell, last):
            return True
        with turn(self._cost(last, cell).parent / "begun.lock", wait=False) as own:
            if own:
                self.run(cell, last)
        return own

    def done(self, cell: int, step: str = "evaluate") -> bool:
        """Say whether a job is done: its cost is recorded after its outputs."""
        return cost_details(self._cost(step, cell)).exists()

    def left(self, cell: int, last: str = "evaluate") -> dict[str, str]:
        """Return the digests of a cell's jobs that are not done, by the step."""
        return {step: self.plan.cells[cell][step] for step in self._up_to(last) if not self.done(cell, step)}

    def seconds(self, cell: int, step: str) -> float:
        """Return what a job took on the wall, stopped attempts included."""
        spent = read_json(cost_details(self._cost(step, cell)), "the cost of a job")
        return float(spent["steps"][step]["seconds"])

    def _job(self, step: str, cell: int) -> None:
        digest = self.plan.cells[cell][step]
        if self.done(cell, step):
            return
        with turn(self._cost(step, cell).parent / "job.lock"):
            if self.done(cell, step):
                return
            moved = {name: self.root / path for name, path in self.plan.moves(step, digest).items()}
            log = self.root / "logs" / FOLDER / step / f"{digest}.log"
            code = run_step(step, self.cells[cell], self.root, moved, log)
            if code:
                # The step has told why.
                raise SystemExit(code)

    def _cost(self, step: str, cell: int) -> Path:
        return self.root / cost_file(step, self.plan.cells[cell][step])

    @staticmethod
    def _up_to(last: str) -> list[str]:
        steps = list(STEPS)
        return steps[: steps.index(last) + 1]


def work(tasks: list[tuple[Jobs, int, str]]) -> None:
    """Run cells up to a step each; those that another process has begun come last."""
    later = [task for task in tasks if not task[0].begin(task[1], task[2])]
    for jobs, cell, last in later:
        jobs.run(cell, last)
