"""Near-duplicates across the target's splits: a line in the log of `target`, and a report beside the test split."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from imbnas.data.near_duplicates import REPORT, describe, hashes_of, pairs_across, write_report
from imbnas.data.raw import Raw
from imbnas.params.target import TargetParams
from imbnas.run.context import Context


def tell_look_alikes(
    params: TargetParams,
    raws: Mapping[str, Raw | None],
    rows: Mapping[str, tuple[str, np.ndarray]],
    first: np.ndarray,
    context: Context,
) -> int:
    """Write the report of near-duplicates, log a line where there are some, and return how many test rows are in one.

    `rows` names for each split its raw split and the rows there; the training images that are in no split, and are not
    copies of others (`first`), are the source's.
    """
    directory = context.path("target_test")
    compared = params.compares_looks
    parts = {"source": ("train", _left(rows, first)), **rows} if compared else {}
    hashes: dict[str, np.ndarray] = {}
    known = {name: hashes_of(raw) for name, raw in raws.items() if raw is not None} if compared else {}
    if compared and known["train"] is None:
        context.log("near-duplicates are not looked for: target.verify is headers, which decodes nothing")
    for split, (name, chosen) in parts.items():
        found = known[name]
        if found is not None:
            hashes[split] = found[chosen]

    def place(split: str, row: int) -> str:
        name, chosen = parts[split]
        raw, at = raws[name], int(chosen[row])
        return raw.paths[at] if raw is not None and raw.paths is not None else f"row {at}"

    if not hashes or params.near_duplicates is None:
        write_report(directory, None, place)
        return 0
    pairs = pairs_across(hashes, params.near_duplicates)
    write_report(directory, pairs, place)
    if pairs.count:
        report = os.path.relpath(directory / REPORT, context.root)
        context.log(f"{describe(pairs, place, params.near_duplicates)}; {report} names them")
    return pairs.near


def _left(rows: Mapping[str, tuple[str, np.ndarray]], first: np.ndarray) -> np.ndarray:
    """Return the training rows that no split has, without copies."""
    left = first == np.arange(len(first))
    for name, chosen in rows.values():
        if name == "train":
            left[chosen] = False
    return np.flatnonzero(left)
