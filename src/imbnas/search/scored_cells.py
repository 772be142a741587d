"""Reads tables of architectures and what they score when each is trained alone: any column, any set of cells."""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbnas.errors import UserError
from imbnas.files import TABLE_LIMIT, check_regular
from imbnas.spaces.nasbench201 import from_string
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = {
    "cifar10": "CIFAR10TestAccuracy200Epochs",
    "cifar100": "CIFAR100TestAccuracy200Epochs",
    "imagenet16-120": "ImageNetTestAccuracy200Epochs",
}
"""Short names of the columns of NAS-Bench-201's published accuracies, which are in percent."""
NAMES = ("architecture", "ArchitectureString")
"""The column of architectures: choices joined by hyphens, as in results/search.parquet, or the benchmark's notation."""
CUT_OFF = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What the end or the middle of a damaged compressed file raises, beside OSError."""
SELECTED = ("condition", "device", "precision")
"""Columns of which a comparison takes one value."""


@dataclass(frozen=True)
class Selection:
    """The figures to read from a table: a column, and where it holds several, a condition, device and precision."""

    column: str
    condition: str | None = None
    device: str | None = None
    precision: str | None = None


@dataclass(frozen=True)
class ScoredCells:
    """Scores by architecture, the mean over the seeds that hold every cell; accuracies in [0, 1].

    `errors` are the standard errors of these means, 0 where there is one seed; `share` says that scores are shares.
    """

    scores: dict[Architecture, float]
    errors: dict[Architecture, float]
    column: str
    seeds: int
    share: bool

    def rank(self, score: float) -> int:
        """Return the place of a score among the cells, from 1 for the highest."""
        return 1 + sum(value > score for value in self.scores.values())


def default_column(path: Path) -> str:
    """Return what a lookup without a column takes: `test`, or CIFAR-10's published one in a table of the benchmark."""
    columns = _read(path).columns
    return "cifar10" if "test" not in columns and PUBLISHED["cifar10"] in columns else "test"


def read_scores(path: Path, selection: Selection, parse: Callable[[str], Architecture | None]) -> ScoredCells:
    """Return a column of a CSV file, which may be compressed, or of a Parquet file (by its suffix).

    `parse` returns the architecture that a text of the column `architecture` names, None for a text that names none.

    Raises:
        UserError: for a file that is missing or not such a table, for a column that it lacks, for rows of several
            conditions, devices or precisions of which none is selected, and for a cell that is there twice.
    """
    column = PUBLISHED.get(selection.column, selection.column)
    table = _selected(path, _read(path), selection)
    name = next((name for name in NAMES if name in table.columns), None)
    if name is None:
        raise UserError(f"{path}: not a table of architectures, expected a column {' or '.join(NAMES)}")
    if column not in table.columns or column == name:
        numeric = [str(found) for found in table.columns if table[found].dtype.kind in "if" and found != "seed"]
        raise UserError(f"{path}: has no column {column!r}, expected one of {', '.join(numeric) or 'some numbers'}")
    factor = 0.01 if column in PUBLISHED.values() else 1.0
    by_seed: dict[int, dict[Architecture, float]] = {}
    seeds = table["seed"] if "seed" in table.columns else [0] * len(table)
    for number, text, seed, value in zip(table.index, table[name], seeds, table[column], strict=True):
        architecture = parse(str(text))
        if architecture is None:
            raise UserError(f"{path}: row {number}: {name} is {str(text)!r}, which names no architecture of the space")
        score = _number(value)
        if not math.isfinite(score):
            raise UserError(f"{path}: row {number}: {column} is {value!r}, expected a finite number")
        own = by_seed.setdefault(_seed_of(path, number, seed), {})
        if architecture in own:
            raise UserError(f"{path}: row {number}: {text} is there a second time, expected each cell once for a seed")
        own[architecture] = factor * score
    return _means(path, by_seed, column)


def _number(value: object) -> float:
    """Return the value as a number, NaN for none: one text in a column of a CSV file makes texts of its numbers."""
    try:
        return float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        return math.nan


def _seed_of(path: Path, number: Any, value: Any) -> int:
    seed = _number(value)
    if not math.isfinite(seed) or seed != int(seed):
        raise UserError(f"{path}: row {number}: seed is {value!r}, expected a whole number")
    return int(seed)


def choices_of(text: str) -> Architecture | None:
    """Return the architecture that a text names, as results/search.parquet has it or in NAS-Bench-201's notation."""
    try:
        return from_string(text) if "|" in text else tuple(int(part) for part in text.split("-"))
    except (UserError, ValueError):
        return None


def cell_parser(space: SearchSpace) -> Callable[[str], Architecture | None]:
    """Return the same for architectures of a space alone."""

    def parse(text: str) -> Architecture | None:
        found = choices_of(text)
        try:
            return None if found is None else space.check(found)
        except UserError:
            return None

    return parse


def _means(path: Path, by_seed: dict[int, dict[Architecture, float]], column: str) -> ScoredCells:
    cells = {cell: None for own in by_seed.values() for cell in own}
    whole = [own for own in by_seed.values() if len(own) == len(cells)]
    if not whole or not cells:
        raise UserError(
            f"{path}: holds {len(cells)} cells and no seed with all of them, expected a seed that is complete"
        )
    scores, errors, count = {}, {}, len(whole)
    for cell in cells:
        values = [own[cell] for own in whole]
        scores[cell] = mean = math.fsum(values) / count
        variance = math.fsum((value - mean) ** 2 for value in values) / max(1, count - 1)
        errors[cell] = math.sqrt(variance / count)
    share = all(0.0 <= value <= 1.0 for value in scores.values())
    return ScoredCells(scores, errors, column, count, share)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        check_regular(path, TABLE_LIMIT)
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected a table of architectures and their scores") from None
    except (OSError, ValueError, KeyError, NotImplementedError, *CUT_OFF) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a table of architectures ({reason}), expected CSV or Parquet") from None


def _selected(path: Path, table: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Return the rows of one condition, device and precision."""
    for key in SELECTED:
        wanted = getattr(selection, key)
        if key not in table.columns:
            if wanted is not None:
                raise UserError(f"{path}: has no column {key}, expected one to select {wanted!r} by")
            continue
        found = sorted(map(str, table[key].unique()))
        if wanted is None and len(found) > 1:
            raise UserError(f"{path}: holds several {key}s: {', '.join(found)}, expected one to be chosen")
        if wanted is not None:
            if wanted not in found:
                raise UserError(f"{path}: {key} {wanted!r} is not there, expected one of {', '.join(found)}")
            table = table[table[key].astype(str) == wanted]
    return table
