"""Published accuracies of NAS-Bench-201's cells, from a table that the user brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from imbnas.cell_graph import EDGES, OPERATIONS, is_connected, live_cell
from imbnas.errors import UserError
from imbnas.files import RECORD_LIMIT, check_regular, read_json
from imbnas.network_names import by_place
from imbnas.spaces.nasbench201 import from_string, to_string
from imbnas.spaces.networks import Architecture
from imbnas.training.checkpoint import load_meta

COLUMNS = {
    "cifar10": "CIFAR10TestAccuracy200Epochs",
    "cifar100": "CIFAR100TestAccuracy200Epochs",
    "imagenet16-120": "ImageNetTestAccuracy200Epochs",
}
"""Column of each dataset: mean test accuracy in percent after 200 epochs."""
NAME = "ArchitectureString"
CELLS = len(OPERATIONS) ** len(EDGES)


def read_accuracies(path: Path, dataset: str) -> dict[Architecture, float]:
    """Return the accuracy of every cell in a CSV file, which may be compressed; in [0, 1].

    The file has a column of cells in the benchmark's notation (`ArchitectureString`) and one for each dataset.

    Raises:
        UserError: for an unknown dataset, or a file that is missing, incomplete, or not such a table.
    """
    if dataset not in COLUMNS:
        raise UserError(f"dataset: found {dataset!r}, expected one of {', '.join(COLUMNS)}")
    try:
        check_regular(path, RECORD_LIMIT)
        table = pd.read_csv(path, usecols=[NAME, COLUMNS[dataset]])
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a table of NAS-Bench-201 ({str(error).splitlines()[0]}), expected a CSV file with the "
            f"columns {NAME} and {COLUMNS[dataset]}"
        ) from None
    pairs = zip(table[NAME], table[COLUMNS[dataset]], strict=True)
    found = {from_string(str(text)): float(value) / 100.0 for text, value in pairs}
    if len(found) != CELLS:
        raise UserError(f"{path}: holds {len(found)} cells, expected all {CELLS} of NAS-Bench-201")
    return found


@dataclass(frozen=True)
class FoundCell:
    """A cell of results/architecture.json in the published table; accuracy and regret in [0, 1].

    `rank` counts from 1 among the cells that a search may choose: connected ones, each in its canonical form alone.
    """

    name: str
    cell: str
    accuracy: float
    rank: int
    regret: float


def found_cells(architecture: Path, references: Path, table: Path, dataset: str) -> list[FoundCell]:
    """Return the chosen cell and those it is compared with; regret is the best cell's accuracy minus its own.

    `references` is the file of the networks to compare with, which need not be there yet.

    Raises:
        UserError: for an architecture of another space, and as `read_accuracies` does.
    """
    found = read_json(architecture, "the output of `imbnas search`")
    if found.get("space") != "nasbench201":
        raise UserError(f"{architecture}: an architecture of {found.get('space')}, expected one of nasbench201")
    published = read_accuracies(table, dataset)
    accuracies = {cell: value for cell, value in published.items() if is_connected(cell) and live_cell(cell) == cell}
    best = max(accuracies.values())
    cells = []
    others = load_meta(references, "references")["networks"] if references.exists() else {}
    described = {"chosen": found["chosen"], **{name: others[name] for name in sorted(others, key=by_place)}}
    for name, one in described.items():
        choices = live_cell(one["architecture"])
        accuracy = published[choices]
        rank = 1 + sum(value > accuracy for value in accuracies.values())
        cells.append(FoundCell(name, to_string(choices), accuracy, rank, best - accuracy))
    return cells
