"""A search of 400 cells of `nasbench201` on digits: how many functions it scored, and what it chose.

    python experiments/distinct_cells.py DIRECTORY

Runs the chain to `search` in DIRECTORY, minutes on two cores, and prints four figures: cells scored, functions among
them, cells without a way from input to output, and cells charged with operations that do not act.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from adaptation_place import Place

from imbnas.cell_graph import is_connected, live_cell
from imbnas.spaces.nasbench201 import to_string
from imbnas.spaces.registry import make_space

STEPS = ("source", "target", "imbalance", "supernet", "adapt", "search")
CHANGES: dict[str, Any] = {
    "space": {
        "name": "nasbench201",
        "stem": {"channels": 4},
        "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
        "last_channels": None,
    },
    "supernet": {"epochs": 10},
    "adapt": {"head": {"epochs": 5}},
    "search": {"population": 20, "generations": 20, "max_macs": None, "calibration": {"rows": 128}},
}


def figures(scored: list[tuple[int, ...]]) -> dict[str, int]:
    """Return how many cells there are, how many functions, and how many are disconnected or have dead operations."""
    return {
        "scored": len(scored),
        "functions": len({live_cell(cell) for cell in scored}),
        "disconnected": sum(not is_connected(cell) for cell in scored),
        "with dead operations": sum(live_cell(cell) != cell for cell in scored),
    }


def main() -> None:
    """Run the chain, and print the figures and the chosen cell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    place = Place(parser.parse_args().directory, "digits", CHANGES)
    params = place.params()
    for step in STEPS:
        place.step(step, params)
    table = pd.read_parquet(place.root / "results/search.parquet")
    for name, number in figures([tuple(map(int, text.split("-"))) for text in table["architecture"]]).items():
        print(f"{name}: {number}")
    best = table[table["chosen"]].iloc[0]
    cell = tuple(map(int, best["architecture"].split("-")))
    live = make_space(params.space).cost(live_cell(cell), (8, 8, 1), 10).macs
    print(f"chosen: {to_string(cell)}, score {best['score']:.4f}, {best['macs']:,} MACs, of which {live:,} act")


if __name__ == "__main__":
    main()
