"""What decides the outputs of a step: the effective parameters, the code, what is installed, and the raw files.

Nothing here imports Snakemake, and nothing heavy: every job pays for it again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yaml import YAMLError

from imbnas.closure import step_files
from imbnas.data.latency_file import read_latencies
from imbnas.data.supernet_fit import check_reused
from imbnas.deploy.libraries import check_installed
from imbnas.errors import naming_files
from imbnas.files import canonical_json, check_named, digest_file
from imbnas.params.approximate import ApproximateParams
from imbnas.params.config import Params, parse, uses
from imbnas.params.origins import Origins
from imbnas.params.reading import decode, read
from imbnas.params.section import merged
from imbnas.params.space_options import SpaceParams
from imbnas.params.supernet import SupernetParams
from imbnas.params.target import TargetParams

LOCK = "requirements.lock"
TAKERS = ("source", "supernet")
"""The steps that read the supernet of another project, where the parameters name one."""
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


def rule_identity(step: str, tree: Mapping[str, Any], project: Path, installed: Iterable[str]) -> list[str]:
    """Return a line for each thing that decides the outputs of `step` besides its inputs.

    They are the parameters in `tree` that the step may see, the source files that it imports, the lock file, the
    versions of what is installed, and the user's own file; what raw images hold is known to who has read them
    (`raw_changes.py`). As the rule's `params`, they are stored as the controller saw them at the start, and compared as
    a set without names, hence each line carries its own. Were the source files inputs of the rule, Snakemake would
    store their state at the job's end, and take an edit made meanwhile for the code that ran.
    """
    return [
        *parameters(step, tree),
        *(f"{file}: {_digest(project / file)}" for file in (*step_files(step), LOCK)),
        *installed,
        *user_files(step, tree),
    ]


def parameters(step: str, tree: Mapping[str, Any]) -> list[str]:
    """Return a line for each of the parameters in `tree` that `step` may see."""
    return [f"{name} = {canonical_json(value)}" for name, value in _leaves(tree, uses(step))]


def user_files(step: str, tree: Mapping[str, Any]) -> list[str]:
    """Return a line for each file of the user's own that `step` reads; `tree` holds the parameters.

    They are the file of class counts of `imbalance`, the supernet of another project, and the tables of scores and of
    latencies of `search`. Raise UserError where a file is absent or of something else: its step would say so, `search`
    after everything before it has been trained. So it is with a table of products, whose digest is a parameter, and
    with the libraries that `evaluate.int8` needs.
    """
    if step in TAKERS and (reused := tree.get("supernet", {}).get("reuse")) is not None:
        space, target = SpaceParams.model_validate(tree["space"]), TargetParams.model_validate(tree["target"])
        digest = check_reused(SupernetParams.model_validate(tree["supernet"]), space, target, Path())
        return [f"{reused}: {str(digest)[:16]}"]
    if step == "imbalance" and tree[step]["profile"] == "counts":
        return [_line(Path(tree["target"]["root"]) / tree[step]["counts"])]
    if step == "evaluate" and tree[step]["int8"]:
        check_installed("evaluate.int8")
    if step != "search":
        return []
    if tree["approximate"]["multiplier"] == "table":
        from imbnas.approximate.chosen_table import chosen_table

        chosen_table(ApproximateParams.model_validate(tree["approximate"]), Path())
    scores, latencies = (tree[step].get(name) for name in ("table", "latency"))
    if scores is not None:
        check_named(Path(scores), "search.table")
    if latencies is not None:
        target = TargetParams.model_validate(tree["target"])
        read_latencies(Path(latencies), SpaceParams.model_validate(tree["space"]), target.shape, target.classes)
    return [_line(Path(file)) for file in (scores, latencies) if file is not None]


def _line(path: Path) -> str:
    return f"{path}: {_digest(path)}"


def watched(step: str, tree: Mapping[str, Any], look: Callable[[Path], str] | None = None) -> list[str]:
    """Return a line that changes with any file below the root of `step`, while DVC runs it; none otherwise.

    DVC takes the digest of all files there when the stage ends, whether they were read or not. There is no line where
    their reader compares them with published checksums, or where the step may download them. `look` takes the place of
    `fingerprint`, where one look has to do for many calls.
    """
    if "DVC_STAGE" not in os.environ or step not in ("source", "target"):
        return []
    if step == "source" and tree.get("supernet", {}).get("reuse") is not None:
        return []  # it reads none
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


def reused_digest(params: Params, project: Path) -> str:
    """Return the digest of the supernet of another project, `none` where the parameters name none."""
    file = params.supernet.reuse
    return "none" if file is None else _digest(project / file)


def _digest(path: Path) -> str:
    return digest_file(path)[:16] if path.is_file() else "absent"


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
