"""The study as the rules ask for it: by the step and the digest of a job.

The controller expands the parameters into cells and leaves the plan beside its other notes in `.imbnas/runs/<digest>/`;
its jobs read it there. Whatever is the same for many jobs is looked at once: a study may have thousands.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import controller
import environment
import identity

from imbnas.closure import module_digest
from imbnas.files import canonical_json, digest_bytes, digest_file, write_bytes
from imbnas.params.config import Params
from imbnas.params.dataset import PATH_DATASETS
from imbnas.run.graph import PATHS, STEPS, maker
from imbnas.study.plan import Plan, cell, cells, place, planned

RAW = ("source", "target")
"""The steps that read raw images."""
COLLECT = "imbnas.study.collect"
"""The module that makes tables and figures of the finished cells."""


class Study:
    """The study of one run; everything in it is made when it is first asked for."""

    def __init__(self, run: controller.Run, project: Path, main: bool) -> None:
        """Take the parameters of `run`; `main` says whether this is the controller."""
        self._run, self._project, self._main = run, project, main
        self._fingerprint = cache(identity.fingerprint)

    @cached_property
    def plan(self) -> Plan:
        """The plan; UserError for a wrong cell."""
        file = Path(self._run.snapshot).with_name("study.json")
        if not self._main:
            return Plan(json.loads(file.read_text(encoding="utf-8")))
        made = planned(self._run.params, self._run.grid, self._cells)
        text = canonical_json(made.cells).encode()
        if not file.exists() or file.read_bytes() != text:
            write_bytes(file, text)
        return made

    @cached_property
    def _cells(self) -> list[Params]:
        return cells(self._run.params, self._run.grid)

    def inputs(self, step: str, digest: str, listed: Iterable[str]) -> list[str]:
        """Return the inputs of a job: those that the chain's rule lists, moved to the jobs that make them."""
        jobs = self.plan.cells[self.plan.jobs[step][digest]]
        return [move(file, jobs[maker(_name(file))]) for file in listed]

    def params(self, step: str, digest: str) -> Params:
        """Return the parameters of the first cell that needs a job."""
        if self._main:
            return self._cells[self.plan.jobs[step][digest]]
        return cell(self._run.params, self.plan.jobs[step][digest], self._run.grid)

    def options(self, step: str, digest: str) -> str:
        """Return the options of `imbnas <step>`: the cell, the code, and every path."""
        number = self.plan.jobs[step][digest]
        moves = [f"{name}={path}" for name, path in self.plan.moves(step, digest).items()]
        words = ["--config", self._run.snapshot, "--cell", str(number), "--code", self._run.code[step]]
        return shlex.join([*words, *(word for move in moves for word in ("--path", move))])

    def user_files(self, step: str, digest: str) -> str:
        """Return the state of the user's files that a job reads; empty within a job.

        What it depends on besides, its parameters, is in its digest.
        """
        if not self._main or step not in ("imbalance", "search", "evaluate", *identity.TAKERS):
            return ""
        return "; ".join(identity.user_files(step, self.params(step, digest).tree()))

    def watched(self, step: str, digest: str) -> str:
        """Return the state of all raw files of a job, where DVC asks for it; empty otherwise."""
        if step not in RAW:
            return ""
        return "; ".join(identity.watched(step, self.params(step, digest).tree(), self._fingerprint))

    def code(self, step: str) -> str:
        """Return a line for the code of a step."""
        return f"code of {step}: {self._run.code[step]}"

    @cached_property
    def environment(self) -> str:
        """A line for the lock file and what is installed; empty within a job."""
        if not self._main:
            return ""
        lock = self._project / identity.LOCK
        lines = [digest_file(lock) if lock.exists() else "absent", *environment.installed()]
        return f"{identity.LOCK} and what is installed: {digest_bytes(canonical_json(lines).encode())[:16]}"

    @cached_property
    def collect(self) -> list[str]:
        """A line for each thing that decides the tables and figures besides the cells' results."""
        if not self._main:
            return []
        given = self._run.params.tree()["study"]
        named = {f"study.axes.{name}": value for name, value in given["axes"].items()}
        named |= {f"study.{name}": value for name, value in given.items() if name != "axes"}
        lines = [f"{name} = {canonical_json(value)}" for name, value in named.items()]
        return [*lines, f"code of the study: {module_digest(COLLECT)[:16]}", self.environment]

    def light(self, section: str) -> bool:
        """Say whether the dataset of `section` comes in a few files in every cell; see `light` of the chain."""
        used = {getattr(self._run.params, section).dataset}
        for name, values in self._run.params.study.axes.items():
            if name == f"{section}.dataset":
                used |= set(map(str, values))
            elif name == section:
                used |= {str(value["dataset"]) for value in values if isinstance(value, Mapping) and "dataset" in value}
        return not used & set(PATH_DATASETS)

    def results(self, names: Iterable[str]) -> list[str]:
        """Return the files called `names` of all cells."""
        return [place(name, digest) for digest in self.plan.jobs["evaluate"] for name in names]

    @cached_property
    def identity(self) -> str:
        """A digest of all that decides the results, as it was when this was first asked for."""
        jobs = [(step, digest) for step, digests in self.plan.jobs.items() for digest in digests]
        lines = [
            f"{step} {digest} {self.user_files(step, digest)} {self.watched(step, digest)}" for step, digest in jobs
        ]
        return digest_bytes("\n".join([*lines, *map(self.code, STEPS), *self.collect]).encode())


def move(file: str, digest: str) -> str:
    """Return where the job `digest` writes a file of the chain; `digest` may be a wildcard."""
    name = _name(file)
    return place(name, digest) + file.removeprefix(PATHS[name])


@cache
def _name(file: str) -> str:
    """Return the name in `graph.PATHS` of a file, or of the directory in which it lies."""
    return next(name for name, path in PATHS.items() if file == path or file.startswith(f"{path}/"))


def unfinished(jobs: Iterable[Any]) -> Mapping[str, list[str]]:
    """Return step and digests of those of Snakemake's `jobs` that are a study's."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        step = job.rule.name.removeprefix("study_")
        if step != job.rule.name:
            found.setdefault(step, []).append(job.wildcards.digest)
    return found
