"""The finished trainings of a truth table: a sealed file each, and the rows that the committed table holds already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imbnas.closure import module_digest
from imbnas.errors import UserError
from imbnas.files import canonical_json, digest_bytes
from imbnas.params.truth import text_of
from imbnas.sealed import DamagedError, read_record, write_record
from imbnas.spaces.networks import Architecture
from imbnas.truth.data_rows import DIGITS, RowDigests, digests, groups
from imbnas.truth.places import Table
from imbnas.truth.trained_rows import FIGURES, KEY, MADE, Row, key_of, named, read_rows, read_seconds

CODE = "imbnas.truth.train_cell"
"""The module whose import closure trains a cell."""


@dataclass(frozen=True)
class Cell:
    """One training: its seed, its condition and its architecture."""

    seed: int
    condition: str
    architecture: Architecture


@dataclass(frozen=True)
class Kept:
    """A finished training: its row of the table and its row of the file of seconds."""

    row: Row
    spent: Row


@dataclass
class Records:
    """The finished trainings of a table on one device at one precision."""

    table: Table
    device: str
    found: dict[tuple[Any, ...], Kept] = field(default_factory=dict)
    """By key, what `load` has read."""

    @cached_property
    def made(self) -> dict[str, str]:
        """What this process computes a row by."""
        return {"code": module_digest(CODE)[:DIGITS], "torch": version("torch").partition("+")[0]}

    @cached_property
    def rows(self) -> dict[str, RowDigests]:
        """The digests of each condition's rows."""
        return {condition: digests(self.table, condition) for condition in self.table.spec.conditions}

    @cached_property
    def recipe(self) -> str:
        """The digest of what the file states of space, numerics but the device, recipe and shot rule.

        Not of defaults: a parameter that imbnas gets later changes no row. Whether its default does what was done
        before is found out by comparing figures, see `shards.agree`.
        """
        return digest_bytes(canonical_json(self.table.stated).encode())[:DIGITS]

    def described(self, cell: Cell) -> Row:
        """Return the columns of a cell's row that are known before its training."""
        spec, rows = self.table.spec, self.rows[cell.condition]
        return {
            "seed": cell.seed,
            "architecture": text_of(cell.architecture),
            "condition": cell.condition,
            "space": spec.space.name,
            "device": self.device,
            "precision": spec.runtime.precision,
            "train_rows": rows.train,
            "validation_rows": rows.validation,
            "test_rows": rows.test,
            "recipe": self.recipe,
            **self.made,
        }

    def cells(self) -> Iterator[Cell]:
        """Yield the table's trainings in its order: all of seed 0 first, the conditions of an architecture together."""
        spec = self.table.spec
        for seed in range(spec.seeds):
            for architecture in spec.architectures:
                for condition in spec.conditions:
                    yield Cell(seed, condition, architecture)

    def load(self) -> None:
        """Read what is finished: sealed files, and the committed table's rows.

        UserError where the committed table is of another recipe or of other rows, or says something else than a file.
        """
        self.found = {}
        committed, own = list(self._committed()), list(self._sealed())
        self._check_groups([kept.row for kept in committed], {key_of(kept.row) for kept in own})
        for kept in [*committed, *own]:
            before = self.found.get(key_of(kept.row))
            if before is not None and (other := differences(before.row, kept.row)):
                raise UserError(
                    f"{self.table.beside('.parquet')}: {named(kept.row)}: {other} differs from what was trained here, "
                    "expected the same figures; move one of the two away"
                )
            if before is None or before.row["code"] == kept.row["code"]:
                self.found[key_of(kept.row)] = kept

    def _check_groups(self, committed: list[Row], own: set[tuple[Any, ...]]) -> None:
        """Refuse rows whose many, medium and few are of other groups, as before a more imbalanced condition was added.

        `own` are the keys of what was trained here, whose records name their groups.
        """
        trained = {row["condition"] for row in committed}
        unknown = [row for row in committed if key_of(row) not in own]
        if unknown and groups(self.table, trained) != groups(self.table):
            raise self._regrouped(self.table.beside(".parquet"), unknown[0])

    def _regrouped(self, file: Path, row: Row) -> UserError:
        return UserError(
            f"{file}: {named(row)}: many, medium and few are of other classes than with the most imbalanced condition "
            f"of {self.table.file}, expected the same groups in all rows; give the file another name"
        )

    def of(self, cell: Cell) -> Kept | None:
        """Return a finished training among those that `load` has read."""
        return self.found.get(key_of(self.described(cell)))

    def save(self, cell: Cell, row: Row, spent: Row) -> None:
        """Keep a finished training."""
        write_record(self._file(cell), {"row": row, "spent": spent, "groups": groups(self.table)})

    def _file(self, cell: Cell) -> Path:
        own = self.table.work / "rows" / digest_bytes(f"{self.recipe} {self.device}".encode())[:DIGITS]
        return own / str(cell.seed) / f"{cell.condition}-{self.rows[cell.condition].train}" / text_of(cell.architecture)

    def _sealed(self) -> Iterator[Kept]:
        own = groups(self.table)
        for cell in self.cells():
            file = self._file(cell)
            try:
                record = read_record(file)
                kept = Kept(record["row"], record["spent"])
            except FileNotFoundError:
                continue
            except (DamagedError, KeyError):
                # A training more; what it was is told by the log of the run that repeats it.
                file.unlink()
                continue
            if record.get("groups", own) != own:
                raise self._regrouped(file, kept.row)
            yield kept

    def _committed(self) -> Iterator[Kept]:
        file = self.table.beside(".parquet")
        if not file.exists():
            return
        rows = {key_of(row): row for row in read_rows(file)}
        seconds = read_seconds(self.table.beside("-seconds.csv"))
        for cell in self.cells():
            expected = self.described(cell)
            row = rows.get(key_of(expected))
            if row is None:
                continue
            for name in ("space", "recipe", "train_rows", "validation_rows", "test_rows"):
                if row[name] != expected[name]:
                    raise UserError(
                        f"{file}: {named(row)}: {name} is {row[name]}, expected {expected[name]} by {self.table.file}; "
                        "move the table away, or give the file another name"
                    )
            yield Kept(row, seconds.get(key_of(row)) or unknown_seconds(row))

    def others(self) -> list[Kept]:
        """Return the committed table's rows of other devices and precisions, in its order."""
        file = self.table.beside(".parquet")
        if not file.exists():
            return []
        seconds, own = read_seconds(self.table.beside("-seconds.csv")), (self.device, self.table.spec.runtime.precision)
        return [
            Kept(row, seconds.get(key_of(row)) or unknown_seconds(row))
            for row in read_rows(file)
            if (row["device"], row["precision"]) != own
        ]


def unknown_seconds(row: Row) -> Row:
    """Return the row of the file of seconds of a training of which nobody has kept what it took."""
    return {**{name: row[name] for name in KEY}, "seconds": 0.0, "processor": "unknown"}


def differences(first: Row, second: Row) -> str:
    """Return the figures in which two rows of one training differ, with both values; "" where they agree."""
    return ", ".join(f"{name} ({first[name]!r}, {second[name]!r})" for name in FIGURES if first[name] != second[name])


def made_by(row: Row) -> tuple[str, ...]:
    """Return what computed a row."""
    return tuple(row[name] for name in MADE)
