"""The options that the experiments on a truth table share."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from imbnas.errors import UserError
from imbnas.truth.places import Table


def table_parser(description: str | None, condition: str, seeds: str, count: int = 5) -> argparse.ArgumentParser:
    """Return a parser of a table, its data and project, `--condition` and `--seeds`, which is `count` unless given."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?", default=Path("tables/cifar10-lt-16.yaml"))
    parser.add_argument("--data", type=Path, help="raw files, in place of target.root")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's directory")
    parser.add_argument("--condition", default="longtail", help=condition)
    parser.add_argument("--seeds", type=int, default=count, help=seeds)
    return parser


def check_options(
    options: argparse.Namespace, table: Table, epochs: Sequence[str], repeated: Sequence[str] = ("seeds",)
) -> None:
    """Refuse options that do not fit the table, or that leave nothing to compare.

    `epochs` are the options that count epochs, `repeated` those that say how often something is done.
    """
    if table.spec.space.name != "nasbench201":
        raise UserError(f"{table.file}: space.name is {table.spec.space.name}, expected nasbench201")
    check_condition(options, table)
    for name in repeated:
        if getattr(options, name) < 2:
            raise UserError(f"--{name} {getattr(options, name)}: expected at least 2, one has no interval")
    for name in epochs:
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: expected at least 1 epoch")


def check_condition(options: argparse.Namespace, table: Table) -> None:
    """Refuse a condition that the table does not have."""
    if options.condition not in table.spec.conditions:
        raise UserError(f"--condition {options.condition}: expected one of {', '.join(table.spec.conditions)}")


def check_names(option: str, given: Iterable[str] | None, known: Sequence[str]) -> None:
    """Refuse a name behind an option that is not one of those known."""
    if unknown := sorted(set(given or ()) - set(known)):
        raise UserError(f"{option} {unknown[0]}: expected some of {', '.join(known)}")
