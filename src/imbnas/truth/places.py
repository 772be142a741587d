"""Places of a truth table: what git keeps of it, and the working files below `.imbnas/table/NAME`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from imbnas.closure import step_digest
from imbnas.errors import UserError
from imbnas.files import canonical_json, digest_bytes
from imbnas.params.reading import read
from imbnas.params.shared import TrainingNumerics
from imbnas.params.truth import NAME, TruthParams, load_truth
from imbnas.run.graph import PATHS

DATA_STEPS = ("source", "target", "imbalance")
"""The steps of the chain that make a table's rows."""
SHARED = ("source_train", "source_validation", "target_train", "target_validation", "target_test")

SELF_CHECKED = ("cifar10", "cifar100", "digits")
"""Datasets of which other raw files are refused, or that come with a library."""


@dataclass(frozen=True)
class Table:
    """A table: the file that describes it, the project's directory, and the raw data where they lie elsewhere."""

    file: Path
    root: Path
    data: Path | None = None

    @cached_property
    def spec(self) -> TruthParams:
        """What the file says."""
        if not NAME.fullmatch(self.name):
            raise UserError(f"{self.file}: expected a name of small letters, digits and hyphens for the table")
        return load_truth(self.file)

    @cached_property
    def stated(self) -> dict[str, Any]:
        """The part of the file that decides a training's result, besides its rows, seed and device."""
        given = {name: read(self.file).get(name) or {} for name in ("space", "runtime", "retrain", "evaluate")}
        numerics = TrainingNumerics.model_fields.keys() - {"device"}
        given["runtime"] = {name: value for name, value in given["runtime"].items() if name in numerics}
        given["evaluate"] = {name: given["evaluate"].get(name) for name in ("shots", "thresholds")}
        return given

    @property
    def name(self) -> str:
        """The table's name, the file's without its suffix."""
        return self.file.stem

    def beside(self, suffix: str) -> Path:
        """Return a file of the result, beside the one that describes it."""
        return self.file.with_name(self.name + suffix)

    @property
    def work(self) -> Path:
        """The directory of the working files."""
        return self.root / ".imbnas" / "table" / self.name

    def tree(self, condition: str, seed: int = 0) -> dict[str, Any]:
        """Return the chain's parameters under a condition, with the raw data where they are."""
        tree = self.spec.params(condition, seed, str(self.file)).tree()
        if self.data is not None:
            for section in ("source", "target"):
                if tree[section]["dataset"] == tree["target"]["dataset"]:
                    tree[section]["root"] = str(self.data.resolve())
        return tree

    @cached_property
    def rows(self) -> Path:
        """The directory of the rows, another one for other data parameters, raw files or code of the steps."""
        tree = self.spec.params(next(iter(self.spec.conditions)), 0).tree()
        code = {step: step_digest(step) for step in DATA_STEPS}
        made: dict[str, Any] = {"source": tree["source"], "target": tree["target"], "code": code}
        moved = self.tree(next(iter(self.spec.conditions)))
        for section in ("source", "target"):
            if tree[section]["dataset"] not in SELF_CHECKED:
                made[f"{section} files"] = listing(self.root / moved[section]["root"])
        return self.work / "data" / digest_bytes(canonical_json(made).encode())[:16]

    def files(self, condition: str) -> dict[str, Path]:
        """Return where the chain's files lie that a training under a condition reads."""
        own = self.rows / self._own(condition)
        moved = {name: self.rows / Path(PATHS[name]).relative_to("data") for name in SHARED}
        return {**moved, "longtail": own / "longtail.parquet", "imbalance": own / "imbalance.json"}

    def _own(self, condition: str) -> str:
        tree = self.spec.conditions[condition].model_dump_json(by_alias=True)
        return f"{condition}-{digest_bytes(tree.encode())[:8]}"


def listing(root: Path) -> list[list[Any]]:
    """Return path, size and time of every file below `root`, or of the file that it is: raw files that change differ.

    Links to directories are followed.
    """
    files = [root] if root.is_file() else [Path(top) / name for top, _, names in _walk(root) for name in names]
    states = [(file, file.stat()) for file in files if file.is_file()]
    return sorted([file.relative_to(root).as_posix(), state.st_size, state.st_mtime_ns] for file, state in states)


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk through a directory, each real one once."""
    seen: set[str] = set()
    for top, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(top)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield top, folders, names
