"""Looks networks up in tables of what each scores when trained alone: published ones, or those of `make table`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from imbnas.cell_graph import EDGES, NONE, OPERATIONS, live_cell
from imbnas.errors import UserError
from imbnas.files import RECORD_LIMIT, check_regular, read_json
from imbnas.network_names import by_place
from imbnas.search.scored_cells import CUT_OFF, ScoredCells, Selection, choices_of, read_scores
from imbnas.search.scored_cells import PUBLISHED as COLUMNS
from imbnas.spaces.nasbench201 import from_string, to_string
from imbnas.spaces.networks import Architecture
from imbnas.training.checkpoint import load_meta

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
    except (OSError, ValueError, *CUT_OFF) as error:
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
    """A network of results/architecture.json in a table; `rank` counts from 1 for the highest score.

    Ranks and regret, the best score minus its own, are among the architectures that a search may choose: connected
    ones, each in its canonical form alone. None: the table does not hold the network.
    """

    name: str
    cell: str
    score: float | None
    rank: int | None
    regret: float | None


def found_cells(
    architecture: Path, references: Path, table: Path, selection: Selection
) -> tuple[list[FoundCell], ScoredCells]:
    """Return the chosen network and those it is compared with, and the scores of all cells that a search may choose.

    `references` is the file of the networks to compare with, which need not be there yet.

    Raises:
        UserError: for a file that is not an architecture, for a table that holds none of the networks, and as
            `read_scores` does.
    """
    found = read_json(architecture, "the output of `imbnas search`")
    if not isinstance(found, dict) or not {"space", "chosen"} <= set(found):
        raise UserError(f"{architecture}: not an architecture file, expected space and chosen; run search")
    cells_of_benchmark = found["space"] == "nasbench201"
    others = load_meta(references, "references")["networks"] if references.exists() else {}
    try:
        entries = {"chosen": found["chosen"], **{name: others[name] for name in sorted(others, key=by_place)}}
        networks = {name: tuple(map(int, entry["architecture"])) for name, entry in entries.items()}
        # Cells of each stage are named as those of any space are.
        cells_of_benchmark &= all(len(network) == len(EDGES) for network in networks.values())
        if cells_of_benchmark:
            networks = {name: live_cell(network) for name, network in networks.items()}
            if any(not 0 <= choice < len(OPERATIONS) for network in networks.values() for choice in network):
                raise ValueError(f"choices beyond {len(OPERATIONS) - 1}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{architecture}: not an architecture file ({error!r}), run search") from None
    read = read_scores(table, selection, choices_of)
    scores = dict(read.scores)
    if cells_of_benchmark:
        scores = {cell: value for cell, value in scores.items() if len(cell) == len(EDGES) and live_cell(cell) == cell}
        scores.pop((NONE,) * len(EDGES), None)
    if not any(network in scores for network in networks.values()):
        raise UserError(f"{table}: holds none of the networks of {architecture}, expected one at least")
    candidates = replace(read, scores=scores)
    best = max(scores.values())
    cells = []
    for name, network in networks.items():
        score = scores.get(network)
        text = to_string(network) if cells_of_benchmark else "-".join(map(str, network))
        rank, regret = (None, None) if score is None else (candidates.rank(score), best - score)
        cells.append(FoundCell(name, text, score, rank, regret))
    return cells, candidates
