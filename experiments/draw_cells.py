"""Draw the cells of a truth table of `nasbench201`: half uniformly, half from the best tenth of the published table.

    python experiments/draw_cells.py TABLE --cells 48 --seed 0

Only connected cells in their canonical form, each once. TABLE holds NAS-Bench-201's published accuracies, see
`imbnas lookup`; the best tenth is that of all its 15,625 cells. The lines that this prints are the list `cells` of
tables/NAME.yaml. `--besides tables/NAME.yaml` draws none of the cells of another table.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

import numpy as np

from imbnas.cell_graph import EDGES, live_cell
from imbnas.params.truth import load_truth
from imbnas.search.lookup import read_accuracies
from imbnas.seeds import stream
from imbnas.spaces.networks import Architecture


def draw(
    accuracies: dict[Architecture, float], count: int, seed: int, besides: Collection[Architecture] = ()
) -> list[Architecture]:
    """Return different cells: the first half uniform, the others among the best tenth; none of `besides`."""
    least = float(np.quantile(list(accuracies.values()), 0.9))
    forms = sorted({live_cell(cell) for cell in accuracies} - {(0,) * len(EDGES), *besides})
    rng = stream(seed, "experiment", "cells")
    chosen = [forms[int(place)] for place in rng.permutation(len(forms))[: count // 2]]
    best = [cell for cell in forms if accuracies[cell] >= least and cell not in chosen]
    return chosen + [best[int(place)] for place in rng.permutation(len(best))[: count - len(chosen)]]


def main() -> None:
    """Print the cells, as tables/NAME.yaml lists them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, help="CSV of all cells and their accuracies, may be compressed")
    parser.add_argument("--dataset", default="cifar10", help="whose accuracies tell the best tenth")
    parser.add_argument("--cells", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--besides", type=Path, help="a table's description, whose cells are not drawn")
    options = parser.parse_args()
    besides = load_truth(options.besides).architectures if options.besides else ()
    for cell in draw(read_accuracies(options.table, options.dataset), options.cells, options.seed, besides):
        print(f"- {'-'.join(map(str, cell))}")


if __name__ == "__main__":
    main()
