"""The part of a truth table that can be compared: one device, one precision, seeds that hold every cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imbnas.errors import UserError
from imbnas.longtail.metrics import Floats
from imbnas.truth.trained_rows import Row, read_rows

ALIKE = ("device", "precision", "space", "recipe", "validation_rows", "test_rows", "torch")
"""The columns that hold one value among rows that are compared."""


@dataclass(frozen=True)
class Whole:
    """The rows of whole seeds by condition, cells in the table's order."""

    architectures: tuple[str, ...]
    conditions: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: dict[tuple[int, str, str], Row]
    """By seed, architecture and condition."""

    def scores(self, condition: str, column: str) -> Floats:
        """Return a column of a condition (seeds, cells)."""
        return np.array(
            [[self.rows[seed, cell, condition][column] for cell in self.architectures] for seed in self.seeds],
            dtype=float,
        )

    def costs(self, column: str) -> Floats:
        """Return a column that is the same in all seeds and conditions: MACs or parameters."""
        return self.scores(self.conditions[0], column)[0]

    def common(self, column: str) -> str:
        """Return the one value of a column of ALIKE."""
        return str(next(iter(self.rows.values()))[column])


def whole(path: Path, device: str | None = None, precision: str | None = None) -> Whole:
    """Return what can be compared in the table at `path`.

    Raises:
        UserError: for rows of several devices, precisions or recipes where none is chosen, and for no whole seed.
    """
    return whole_of(read_rows(path), str(path), device, precision)


def whole_of(rows: Iterable[Row], name: str, device: str | None = None, precision: str | None = None) -> Whole:
    """Return what can be compared among rows; `name` stands in messages."""
    wanted = {"device": device, "precision": precision}
    chosen = [row for row in rows if all(value is None or row[key] == value for key, value in wanted.items())]
    for column in ALIKE:
        found = list(dict.fromkeys(str(row[column]) for row in chosen))
        if len(found) > 1:
            hint = f"; choose one with {column}" if column in wanted else ""
            raise UserError(f"{name}: rows of several {column}: {', '.join(found)}, expected one in a comparison{hint}")
    architectures = tuple(dict.fromkeys(row["architecture"] for row in chosen))
    conditions = tuple(dict.fromkeys(row["condition"] for row in chosen))
    by_key = {(row["seed"], row["architecture"], row["condition"]): row for row in chosen}
    seeds = tuple(
        seed for seed in sorted({row["seed"] for row in chosen}) if _holds(by_key, seed, architectures, conditions)
    )
    if not seeds:
        raise UserError(f"{name}: no seed holds every cell under every condition, expected one; run `make table`")
    kept = {key: row for key, row in by_key.items() if key[0] in seeds}
    return Whole(architectures, conditions, seeds, kept)


def _holds(
    rows: dict[tuple[int, str, str], Row], seed: int, architectures: Sequence[str], conditions: Sequence[str]
) -> bool:
    return all((seed, cell, condition) in rows for cell in architectures for condition in conditions)
