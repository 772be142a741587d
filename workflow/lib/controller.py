"""What the Snakefile asks before it states its rules: which parameters, which code, which raw files.

Snakemake's main process (the controller) reads and checks the parameters once and leaves them, with a digest of every
step's code, in `.imbnas/runs/<digest>/`. Its jobs, which parse the Snakefile again, perhaps hours later on another
machine, take them from there: `params.yaml` may be edited while jobs wait.

Nothing here imports Snakemake, and nothing heavy: every job pays for it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environment
from yaml import YAMLError

from imbnas.closure import look_again, step_digest, step_files
from imbnas.errors import UserError, naming_files
from imbnas.files import canonical_json, digest_bytes, digest_file, read_json, write_bytes
from imbnas.params.config import Params, parse, uses
from imbnas.params.origins import Origins
from imbnas.params.reading import decode, read
from imbnas.params.section import merged
from imbnas.run.graph import STEPS

HANDOVER = "IMBNAS_RUN"
"""Environment variable that tells a job where its controller left the run; a controller never reads it."""
RUNS = Path(".imbnas/runs")
LOCK = "requirements.lock"
CODE_FILE = "code.json"
"""Holds what DVC records of the code, see `code_digests.py`."""
SELF_CHECKED = ("cifar10", "cifar100", "digits")
"""Datasets whose reader compares the raw files with published checksums, or that come with scikit-learn."""


@dataclass(frozen=True)
class Sources:
    """Where the effective parameters come from, each taking precedence over what stands before it."""

    file: Path
    """`params.yaml`."""
    overrides: tuple[Path, ...] = ()
    """Files of `--configfile`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What `--config` says."""
    alone: bool = False
    """Whether what the command line says takes the place of `params.yaml` (`--replace-workflow-config`)."""
    said: str = "--config"
    """What `settings` are called where one of them is wrong."""

    def read(self) -> tuple[Params, Origins]:
        """Return the effective parameters, checked, and where they came from.

        UserError with one line that names where a bad value stands.
        """
        files = [(str(self.file), self.file), *((f"--configfile {file}", file) for file in self.overrides)]
        if self.alone and (self.overrides or self.settings):
            del files[0]
        given = [(name, _mapping(file)) for name, file in files]
        if self.settings:
            given.append((self.said, _typed(self.settings)))
        origins = Origins(given)
        tree: dict[str, Any] = {}
        for _, part in given:
            tree = merged(Params, tree, part)
        return parse(tree, origins), origins


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

    def drift(self, step: str, project: Path, sources: Sources) -> list[str]:
        """Return what has changed since the run began of all that decides the outputs of `step`."""
        look_again()
        tree = sources.read()[0].tree()
        now = [*identity(step, tree, project, environment.installed()), *watched(step, tree)]
        before = [*self.identities[step], *self.watched.get(step, ())]
        return sorted(line.split(" = ")[0].split(": ")[0] for line in {*now, *before} - ({*now} & {*before}))


def prepare(project: Path) -> None:
    """Let the shells of rules find this tree's code, and the `imbnas` and `python` of Snakemake's own environment."""
    code = [str(project / "src"), str(project / "workflow" / "lib"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, code))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@naming_files()
def begin(project: Path, sources: Sources) -> Run:
    """Return the controller's run, written down for its jobs. UserError for bad parameters, before any job starts."""
    params, origins = sources.read()
    if "DVC_STAGE" in os.environ:
        environment.check(project / LOCK)  # DVC records the lock file; Snakemake records what is installed
    tree = params.tree()
    code = codes()
    _check_recorded(Path(CODE_FILE), code)
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
    identities = {step: identity(step, tree, project, installed) for step in STEPS}
    watching = {step: watched(step, tree) for step in STEPS}
    return Run(params, (folder / "params.json").as_posix(), code, identities, origins.of("study.axes"), watching)


def _check_recorded(file: Path, code: Mapping[str, str]) -> None:
    """Raise UserError where DVC would record another digest of the stage's code than that of the code that runs.

    The stage `code` writes `file`; since then, or where DVC runs one stage by itself, the code may have changed.
    """
    step = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if step in code and file.is_file():
        noted = read_json(file, "the digests that the stage `code` writes")
        digests = noted.get("code") if isinstance(noted, dict) else None
        if not isinstance(digests, dict) or digests.get(step) != code[step]:
            raise UserError(f"{file.name}: not the code of {step} as it is now, expected it; run `dvc repro {step}`")


def _keep(file: Path, content: bytes) -> None:
    """Write a file unless it holds that already: one that was damaged is written anew."""
    if not file.is_file() or file.read_bytes() != content:
        write_bytes(file, content)


def codes() -> dict[str, str]:
    """Return the digest of each step's code."""
    return {step: step_digest(step)[:16] for step in STEPS}


def join(project: Path, environment: MutableMapping[str, str]) -> Run:
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


def forget() -> None:
    """Delete the states that ended steps have kept for a controller that might have been killed."""
    for mark in Path(".imbnas/resume").rglob("*.done"):
        mark.with_suffix("").unlink(missing_ok=True)
        mark.unlink()


def identity(step: str, tree: Mapping[str, Any], project: Path, installed: Iterable[str]) -> list[str]:
    """Return a line for each thing that decides the outputs of `step` besides its inputs.

    They are the parameters in `tree` that the step may see, the source files that it imports, the lock file, the
    versions of what is installed, and a file of class counts; what raw images hold is known to who has read them
    (`raw_changes.py`). As the rule's `params`, they are stored as the controller saw them at the start, and compared as
    a set without names, hence each line carries its own. Were the source files inputs of the rule, Snakemake would
    store their state at the job's end, and take an edit made meanwhile for the code that ran.
    """
    return [
        *parameters(step, tree),
        *(f"{file}: {_digest(project / file)}" for file in (*step_files(step), LOCK)),
        *installed,
        *counts(step, tree),
    ]


def parameters(step: str, tree: Mapping[str, Any]) -> list[str]:
    """Return a line for each of the parameters in `tree` that `step` may see."""
    return [f"{name} = {canonical_json(value)}" for name, value in _leaves(tree, uses(step))]


def counts(step: str, tree: Mapping[str, Any]) -> list[str]:
    """Return a line for the user's file that `step` reads, if it does; `tree` holds the parameters.

    It is the file of class counts of `imbalance`, and the table of scores of `search`.
    """
    if step == "search" and tree[step]["table"] is not None:
        path = Path(tree[step]["table"])
    elif step == "imbalance" and tree[step]["profile"] == "counts":
        path = Path(tree["target"]["root"]) / tree[step]["counts"]
    else:
        return []
    return [f"{path}: {_digest(path)}"]


def watched(step: str, tree: Mapping[str, Any], look: Callable[[Path], str] | None = None) -> list[str]:
    """Return a line that changes with any file below the root of `step`, while DVC runs it; none otherwise.

    DVC takes the digest of all files there when the stage ends, whether they were read or not. There is no line where
    their reader compares them with published checksums, or where the step may download them. `look` takes the place of
    `fingerprint`, where one look has to do for many calls.
    """
    if "DVC_STAGE" not in os.environ or step not in ("source", "target"):
        return []
    if tree[step]["dataset"] in SELF_CHECKED or tree[step]["download"]:
        return []
    found = (look or fingerprint)(Path(tree[step]["root"]))
    return [f"files below {tree[step]['root']}: {found}"]


@naming_files()
def fingerprint(root: Path) -> str:
    """Return a digest of the relative path, size and modification time of every file below `root`.

    Links are followed, a directory that is reached twice counts once, an absent `root` is empty, and it may be a file
    itself. Contents are not read: a million files take seconds.
    """
    lines: list[str] = []
    if root.is_file():
        lines.append(f"{root.stat().st_size}\0{root.stat().st_mtime_ns}")
    pending = [(str(root), "")] if root.is_dir() else []
    seen: set[tuple[int, int]] = set()
    while pending:
        folder, prefix = pending.pop()
        state = Path(folder).stat()
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        for entry in os.scandir(folder):
            if entry.is_dir():
                pending.append((entry.path, f"{prefix}{entry.name}/"))
            elif entry.is_file():
                state = entry.stat()
                lines.append(f"{prefix}{entry.name}\0{state.st_size}\0{state.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _digest(path: Path) -> str:
    return digest_file(path)[:16] if path.is_file() else "absent"


def _rules(project: Path) -> str:
    """Return a digest of the Snakefile and all that it includes or imports."""
    workflow = project / "workflow"
    files = [project / "Snakefile", *sorted(workflow.glob("rules/*.smk")), *sorted(workflow.glob("scripts/*.py"))]
    return digest_bytes("\n".join(digest_file(file) for file in files).encode())[:16]


def _mapping(file: Path) -> dict[str, Any]:
    """Return what a parameter file holds."""
    found = read(file)
    if not isinstance(found, dict):
        # Told as for a file by itself.
        parse(found, str(file))
    tree: dict[str, Any] = found
    return tree


def _typed(value: Any) -> Any:
    """Return a value of `--config` with its types: below the first level Snakemake hands on every scalar as text."""
    if isinstance(value, Mapping):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    try:
        return decode(value) if isinstance(value, str) else value
    except YAMLError:
        return value


def _leaves(tree: Mapping[str, Any], names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of every leaf at or below each of the dotted `names`."""
    for name in names:
        value: Any = tree
        for part in name.split("."):
            value = value[part]
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", leaf) for key, leaf in _leaves(value, value))
        else:
            yield name, value
