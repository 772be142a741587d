"""The plan of a study: its cells, the job of each step in each cell, and which jobs cells share.

A cell is one combination of the axes' values. A job is one run of a step, named by a digest of exactly the parameters
that determine its outputs: those its step sees, and those the steps of its inputs see. Cells that agree in them share
the job.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import PurePosixPath
from typing import Any

from imbnas.errors import UserError
from imbnas.files import canonical_json, digest_bytes
from imbnas.params.config import Params, parse, uses
from imbnas.params.section import merged, short
from imbnas.run.graph import PATHS, STEPS, maker

FOLDER = "study"
"""Directory of everything that a study writes, relative to the project's root."""


@dataclass(frozen=True)
class Plan:
    """The job that each cell needs at each step; small enough to be handed to every job of a cluster."""

    cells: Sequence[Mapping[str, str]]
    """For each cell the digest of each step's job."""

    @cached_property
    def jobs(self) -> dict[str, dict[str, int]]:
        """The jobs of each step, each with the number of the first cell that needs it."""
        found: dict[str, dict[str, int]] = {step: {} for step in STEPS}
        for number, cell in enumerate(self.cells):
            for step, digest in cell.items():
                found[step].setdefault(digest, number)
        return found

    def place(self, name: str, number: int) -> str:
        """Return where the file or directory called `name` in `graph.PATHS` lies in a cell."""
        return place(name, self.cells[number][maker(name)])

    def inputs(self, step: str, digest: str) -> dict[str, str]:
        """Return where each input of a job lies, by its name."""
        number = self.jobs[step][digest]
        return {name: self.place(name, number) for name in STEPS[step].inputs}

    def moves(self, step: str, digest: str) -> dict[str, str]:
        """Return where each input and output of a job lies, and what it cost, by name."""
        outputs = {name: place(name, digest) for name in STEPS[step].outputs}
        return {**self.inputs(step, digest), **outputs, "cost": cost_file(step, digest)}


def place(name: str, digest: str) -> str:
    """Return where the job `digest` of the step that makes `name` writes it."""
    return f"{FOLDER}/{maker(name)}/{digest}/{PurePosixPath(PATHS[name]).name}"


def cost_file(step: str, digest: str) -> str:
    """Return where a job records its cost; like results/cost.json, the file is not an output."""
    return f"{FOLDER}/{step}/{digest}/cost.json"


def levels(params: Params) -> list[dict[str, Any]]:
    """Return for each cell its value of each axis; the last axis varies fastest."""
    axes = params.study.axes
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def cells(params: Params, file: str) -> list[Params]:
    """Return each cell's parameters, checked; UserError naming axis and value for a wrong one."""
    tree = params.tree()
    axes = tree["study"]["axes"]
    if not axes:
        raise UserError(f"{file}: study.axes: found none, expected parameters with lists of values")
    for name, values in axes.items():
        _check_axis(tree, name, values, file)
    return [_cell(tree, combination, file) for combination in levels(params)]


def cell(params: Params, number: int, file: str) -> Params:
    """Return the parameters of one cell; UserError when there is none of that number."""
    combinations = levels(params)
    if not 0 <= number < len(combinations):
        raise UserError(f"{file}: study.axes: no cell {number}, expected one of 0 to {len(combinations) - 1}")
    return _cell(params.tree(), combinations[number], file)


def _cell(tree: Mapping[str, Any], combination: Mapping[str, Any], file: str) -> Params:
    changed = {section: value for section, value in tree.items() if section != "study"}
    for name, value in combination.items():
        changed = merged(Params, changed, _nested(name, value))
    return parse(changed, f"{file}: study.axes: cell {title(combination)}")


def plan(given: Sequence[Params]) -> Plan:
    """Return the plan of the cells whose parameters are given."""
    return Plan([_digests(params.tree()) for params in given])


def planned(params: Params, file: str, given: Sequence[Params] | None = None) -> Plan:
    """Return the plan of a study, whose cells are `given` where they are known already.

    Raises UserError as `cells`, and for two cells that are the same: a comparison of them would compare nothing.
    """
    made = plan(cells(params, file) if given is None else given)
    seen: dict[str, int] = {}
    for number, digests in enumerate(made.cells):
        other = seen.setdefault(digests["evaluate"], number)
        if other != number:
            first, second = (title(levels(params)[k]) for k in (other, number))
            raise UserError(f"{file}: study.axes: {second} is the same as {first}, expected results that may differ")
    return made


def title(combination: Mapping[str, Any]) -> str:
    """Return a cell's values of the axes on one line."""
    return ", ".join(f"{name}={label(value)}" for name, value in combination.items())


def label(value: Any) -> str:
    """Return an axis's value as tables and figures show it: text as it is, a mapping as its leaves."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={label(item)}" for key, item in value.items())
    return value if isinstance(value, str) else canonical_json(value)


def _digests(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of each step's job in the cell with the parameters in `tree`."""
    found: dict[str, str] = {}
    for step, names in _seen().items():
        parts = {
            "params": {name: _get(tree, name) for name in names},
            "inputs": {name: found[maker(name)] for name in STEPS[step].inputs},
        }
        found[step] = digest_bytes(canonical_json(parts).encode())[:12]
    return found


@cache
def _seen() -> dict[str, list[str]]:
    return {step: uses(step) for step in STEPS}


def _check_axis(tree: Mapping[str, Any], name: str, values: Sequence[Any], file: str) -> None:
    """Raise UserError unless `name` is a parameter, or a section whose `values` are mappings, true or false."""
    try:
        present = _get(tree, name)
    except (KeyError, TypeError):
        known = difflib.get_close_matches(name, list(_names(tree, "")), 1)
        hint = f"did you mean {known[0]}?" if known else "expected the dotted name of a parameter"
        raise UserError(f"{file}: study.axes.{name}: unknown parameter, {hint}") from None
    if isinstance(present, Mapping):
        for value in values:
            if not isinstance(value, Mapping | bool):  # true and false stand for some sections: each cell is checked
                raise UserError(f"{file}: study.axes.{name}: found {short(value)}, expected a mapping of parameters")


def _names(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{key}.")


def _get(tree: Mapping[str, Any], name: str) -> Any:
    value: Any = tree
    for part in name.split("."):
        value = value[part]
    return value


def _nested(name: str, value: Any) -> dict[str, Any]:
    """Return the tree that holds one parameter or section, by its dotted name."""
    first, _, rest = name.partition(".")
    return {first: _nested(rest, value) if rest else value}
