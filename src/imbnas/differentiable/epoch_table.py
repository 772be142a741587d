"""The table that a differentiable search leaves behind: one row per epoch, its architecture parameters among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from imbnas.candidate_columns import CANDIDATE
from imbnas.spaces.cost import Cost

COMMON = {
    **CANDIDATE,
    "train_loss": pa.float64(),
    "search_loss": pa.float64(),
    "rate": pa.float64(),
    "architecture_rate": pa.float64(),
    "mixing": pa.float64(),
    "entropy": pa.float64(),
    "eigenvalue": pa.float64(),
}
"""Columns of every differentiable search, those of all searches first; a score is that of the whole search network,
macs and params are those of the network derived after the epoch."""
SPARSE = {"temperature": pa.float64(), "zeros": pa.float64(), "single": pa.float64()}
"""Columns of a search with sparsemax: its temperature, the share of weights that are exactly 0, and the share of edges
on which a single operation weighs anything."""

MEASURED = {"divergence": pa.float64(), "expected_cost": pa.float64(), "penalty": pa.float64(), "pruned": pa.int64()}
"""Columns of the searches that measure them: how far weights of operations have moved, the expected cost, the weight of
the penalty on the number of operations, and how many have been pruned."""


def trajectory_table(
    rows: Sequence[Mapping[str, Any]], chosen: int, kinds: Sequence[str], cost: Callable[[tuple[int, ...]], Cost]
) -> pa.Table:
    """Return one row per epoch, of which the one at `chosen` gives the architecture.

    Each kind of cell adds `skips_<kind>`, its skip connections, and `alpha_<kind>`, its architecture parameters (edges,
    operations) in one list, row by row; with pruning also `kept_<kind>`, which of them are left, and where they are
    searched `kernels_<kind>`, (edges, kernels), and `exits_<kind>`, null until they are.
    """
    sparse = any("zeros" in row for row in rows)
    schema = {
        **COMMON,
        **(SPARSE if sparse else {}),
        **{name: kind for name, kind in MEASURED.items() if rows and name in rows[0]},
        **{f"skips_{kind}": pa.int64() for kind in kinds},
        **{f"alpha_{kind}": pa.list_(pa.float64()) for kind in kinds},
        **{
            name: pa.list_(pa.float64())
            for name in (f"{what}_{kind}" for what in ("kernels", "exits") for kind in kinds)
            if any(name in row for row in rows)
        },
        **{name: pa.list_(pa.bool_()) for name in map("kept_{}".format, kinds) if rows and name in rows[0]},
    }
    records = []
    for place, row in enumerate(rows):
        architecture = tuple(row["architecture"])
        spent = cost(architecture)
        records.append(
            {
                **row,
                "evaluation": place,
                "architecture": "-".join(map(str, architecture)),
                "macs": spent.macs,
                "params": spent.params,
                "rank": 1 if place == chosen else None,
                "chosen": place == chosen,
            }
        )
    return pa.table({name: [record.get(name) for record in records] for name in schema}, schema=pa.schema(schema))
