"""What the Snakefile asks before it states its rules: the run of its controller, with parameters and code.

Snakemake's main process (the controller) reads and checks the parameters once and leaves them, with a digest of every
step's code, in `.imbnas/runs/<digest>/`. Its jobs, which parse the Snakefile again, perhaps hours later on another
machine, take them from there: `params.yaml` may be edited while jobs wait.

Nothing here imports Snakemake, and nothing heavy: every job pays for it again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

import environment
from identity import LOCK, TAKERS, Sources, reused_digest, rule_identity, watched

from imbnas.closure import look_again, step_digest
from imbnas.errors import UserError, naming_files
from imbnas.files import canonical_json, digest_bytes, digest_file, read_json, write_bytes
from imbnas.params.config import Params, parse
from imbnas.run.graph import STEPS

HANDOVER = "IMBNAS_RUN"
"""Environment variable that tells a job where its controller left the run; a controller never reads it."""
RUNS = Path(".imbnas/runs")
CODE_FILE = "code.json"
"""Holds what DVC records of the code, see `code_digests.py`."""


@dataclass(frozen=True)
class Run:
    """One run of the workflow, as its controller and all its jobs see it."""

    params: Params
    """The effective parameters."""
    snapshot: str
    """File that holds them as JSON, relative to the working directory."""
    code: Mapping[str, str]
    """Digest of each step's code, which the step compares with what it finds when it starts."""
    identities: Mapping[str, list[str]]
    """For each step one line for everything that decides its outputs besides inputs and raw files; empty in a job."""
    grid: str = "params.yaml"
    """Where the axes of the study came from."""
    watched: Mapping[str, list[str]] = field(default_factory=dict)
    """For each step a line for its raw files, where DVC asks whether they have changed; see `watched`."""

    def changed_since_start(self, step: str, project: Path, sources: Sources) -> list[str]:
        """Return what has changed since the run began of all that decides the outputs of `step`."""
        look_again()
        tree = sources.read()[0].tree()
        now = [*rule_identity(step, tree, project, environment.installed()), *watched(step, tree)]
        before = [*self.identities[step], *self.watched.get(step, ())]
        return sorted(line.split(" = ")[0].split(": ")[0] for line in {*now, *before} - ({*now} & {*before}))


def prepare(project: Path) -> None:
    """Let the shells of rules find this tree's code, and the `imbnas` and `python` of Snakemake's own environment."""
    code = [str(project / "src"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, code))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@naming_files()
def start_run(project: Path, sources: Sources) -> Run:
    """Return the controller's run, written down for its jobs. UserError for bad parameters, before any job starts."""
    params, origins = sources.read()
    if "DVC_STAGE" in os.environ:
        environment.check(project / LOCK)  # DVC records the lock file; Snakemake records what is installed
    tree = params.tree()
    code = codes()
    _check_recorded(Path(CODE_FILE), code, reused_digest(params, Path()))
    # In the user's order, which numbers the cells of a study.
    texts = [
        json.dumps(tree, separators=(",", ":"), ensure_ascii=False),
        canonical_json({"code": code, "rules": _rules(project)}),
    ]
    folder = RUNS / digest_bytes("\n".join(texts).encode())[:16]
    for name, text in zip(("params.json", "code.json"), texts, strict=True):
        _keep(folder / name, text.encode())
    os.environ[HANDOVER] = folder.as_posix()
    installed = environment.installed()
    identities = {step: rule_identity(step, tree, project, installed) for step in STEPS}
    watching = {step: watched(step, tree) for step in STEPS}
    return Run(params, (folder / "params.json").as_posix(), code, identities, origins.of("study.axes"), watching)


def _check_recorded(file: Path, code: Mapping[str, str], reused: str) -> None:
    """Raise UserError where DVC would record another digest of the stage's code than that of the code that runs.

    So it is with the `reused` supernet's. The stage `code` writes `file`; since then, or where DVC runs one stage by
    itself, they may have changed.
    """
    step = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if step in code and file.is_file():
        noted = read_json(file, "the digests that the stage `code` writes")
        digests = noted.get("code") if isinstance(noted, dict) else None
        if not isinstance(digests, dict) or digests.get(step) != code[step]:
            raise UserError(f"{file.name}: not the code of {step} as it is now, expected it; run `dvc repro {step}`")
        if step in TAKERS and digests.get("reused") != reused:
            raise UserError(
                f"{file.name}: not the digest of supernet.reuse as it is now, expected it; run `dvc repro {step}`"
            )


def _keep(file: Path, content: bytes) -> None:
    """Write a file unless it holds that already: one that was damaged is written anew."""
    if not file.is_file() or file.read_bytes() != content:
        write_bytes(file, content)


def codes() -> dict[str, str]:
    """Return the digest of each step's code."""
    return {step: step_digest(step)[:16] for step in STEPS}


def load_run(project: Path, environment: MutableMapping[str, str]) -> Run:
    """Return the run that the controller left for this job; UserError when the rules have changed since."""
    if HANDOVER not in environment:
        raise UserError(f"{HANDOVER}: not set in this job, expected the controller's (sbatch --export=ALL hands it on)")
    folder = Path(environment[HANDOVER])
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("params.json", "code.json")]
    if digest_bytes("\n".join(texts).encode())[:16] != folder.name:
        raise UserError(f"{folder}: changed since the run began, expected the files as the controller wrote them")
    stated = json.loads(texts[1])
    if stated["rules"] != _rules(project):
        raise UserError("Snakefile or workflow/: changed since the run began, expected the same rules; start it again")
    snapshot = (folder / "params.json").as_posix()
    return Run(parse(json.loads(texts[0]), snapshot), snapshot, stated["code"], {step: [] for step in STEPS})


def delete_finished_states() -> None:
    """Delete the states that ended steps have kept for a controller that might have been killed."""
    for mark in Path(".imbnas/resume").rglob("*.done"):
        mark.with_suffix("").unlink(missing_ok=True)
        mark.unlink()


def _rules(project: Path) -> str:
    """Return a digest of the Snakefile and all that it includes or imports."""
    workflow = project / "workflow"
    files = [project / "Snakefile", *sorted(workflow.glob("rules/*.smk")), *sorted(workflow.glob("lib/*.py"))]
    return digest_bytes("\n".join(digest_file(file) for file in files).encode())[:16]
