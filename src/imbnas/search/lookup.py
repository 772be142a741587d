"""Published accuracies of NAS-Bench-201's cells, from a table that the user brings."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from imbnas.errors import UserError
from imbnas.spaces.cells import EDGES, OPERATIONS
from imbnas.spaces.chain import Architecture
from imbnas.spaces.nasbench201 import from_string

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
