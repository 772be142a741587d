"""The rows of a truth table: the chain's own steps up to `imbalance`, once for all cells and seeds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from imbnas.data.stored import read_info
from imbnas.errors import UserError
from imbnas.files import canonical_json, digest_bytes, read_json
from imbnas.longtail.shots import make_rule, shot_groups
from imbnas.params.config import parse
from imbnas.run.runner import run_step
from imbnas.truth.places import Table

DIGITS = 16
"""Hexadecimal digits of a digest that a table shows."""


@dataclass(frozen=True)
class RowDigests:
    """The rows of a condition: their digests, and how many train."""

    train: str
    validation: str
    test: str
    counts: tuple[int, ...]


def prepare(table: Table) -> None:
    """Run the steps that are not done."""
    first = next(iter(table.spec.conditions))
    if not (table.files(first)["target_test"] / "info.json").is_file():
        for step in ("source", "target"):
            _step(table, step, first)
    for condition in table.spec.conditions:
        if not table.files(condition)["imbalance"].is_file():
            _step(table, "imbalance", condition)


def _step(table: Table, step: str, condition: str) -> None:
    files = table.files(condition)
    moved = {**files, "cost": table.work / "cost.json"}
    log = table.work / "logs" / f"{step}.log"
    code = run_step(step, parse(table.tree(condition), str(table.file)), table.root, moved, log)
    if code:
        # The step has told why.
        raise SystemExit(code)


def digests(table: Table, condition: str) -> RowDigests:
    """Return the digests of a condition's rows; UserError where `prepare` has not made them."""
    files = table.files(condition)
    tail = _tail(table, condition)
    infos = {name: read_info(files[name]) for name in ("target_train", "target_validation", "target_test")}
    train = digest_bytes(canonical_json([infos["target_train"].digest, tail["digest"]]).encode())
    return RowDigests(
        train[:DIGITS],
        infos["target_validation"].digest[:DIGITS],
        infos["target_test"].digest[:DIGITS],
        tuple(tail["counts"]),
    )


def groups(table: Table, among: Collection[str] | None = None) -> list[str]:
    """Return the shot group of each class, for all conditions by the counts of the most imbalanced one.

    `among` names some of the conditions, as if the table had no others.
    """
    params = table.spec.evaluate
    rule = make_rule(params.shots, params.thresholds.many, params.thresholds.few)
    counts = [_tail(table, condition)["counts"] for condition in among or table.spec.conditions]
    return shot_groups(max(counts, key=lambda found: max(found) / max(1, min(found))), rule)


def _tail(table: Table, condition: str) -> dict[str, Any]:
    file = table.files(condition)["imbalance"]
    found = read_json(file, "the output of `imbnas truth prepare`")
    if not isinstance(found, dict) or not {"counts", "digest"} <= set(found):
        raise UserError(f"{file}: not what `imbnas imbalance` wrote, expected counts and digest")
    return found
