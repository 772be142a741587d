"""The table that scores a search's candidates in place of the supernet (`search.table`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbnas.errors import UserError
from imbnas.files import digest_file
from imbnas.params.search import SearchParams
from imbnas.run.context import Context
from imbnas.search.archive import Score
from imbnas.search.scored_cells import ScoredCells, Selection, cell_parser, read_scores
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace


@dataclass(frozen=True)
class GivenScores:
    """The scores of a table: its file, its cells in ascending order, and what names it in outputs."""

    file: Path
    cells: tuple[Architecture, ...]
    found: ScoredCells
    digest: str
    selection: Selection

    @property
    def condition(self) -> str | None:
        """The condition that was chosen."""
        return self.selection.condition

    @property
    def objective(self) -> str:
        """The name of the score."""
        condition = "" if self.condition is None else f", {self.condition}"
        return f"{self.found.column} of a table{condition}"

    def score(self, architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, Score]]:
        """Yield the score of each architecture; that of several seeds has a standard error."""
        for architecture in architectures:
            error = self.found.errors[architecture] if self.found.seeds > 1 else None
            yield architecture, Score(self.found.scores[architecture], error)

    def described(self) -> dict[str, Any]:
        """Return what outputs say of the table; not where it lies."""
        chosen = {"device": self.selection.device, "precision": self.selection.precision}
        return {
            "digest": self.digest,
            "column": self.found.column,
            "condition": self.condition,
            **{name: value for name, value in chosen.items() if value is not None},
            "cells": len(self.cells),
            "seeds": self.found.seeds,
        }


def read_given(params: SearchParams, context: Context, space: SearchSpace) -> GivenScores | None:
    """Return the scores that `search.table` names, None where it names none.

    Cells that are not canonical are passed over. UserError for a file that is not such a table, see `read_scores`, and
    for one without a cell of the space.
    """
    if params.table is None:
        return None
    file = context.root / params.table
    selection = Selection(params.table_column, params.table_condition, params.table_device, params.table_precision)
    try:
        found = read_scores(file, selection, cell_parser(space))
    except UserError as error:
        raise UserError(f"search.table: {error}") from None
    cells = sorted(cell for cell in found.scores if space.is_one(cell))
    if not cells:
        raise UserError(f"search.table: {file}: no cell is connected and in its canonical form, expected one at least")
    return GivenScores(file, tuple(cells), found, digest_file(file), selection)
