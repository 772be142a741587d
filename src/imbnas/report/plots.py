"""Tables that `dvc plots` draws and compares between experiments: CSV with LF line ends and numbers of six decimals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from imbnas.cost_names import ALWAYS, named_in
from imbnas.csv_text import csv_text
from imbnas.files import write_bytes
from imbnas.report.confusion import Confusion, confusion

CELLS = 100
"""A browser still draws a confusion matrix of so many classes; more are pooled."""
POOLS = 20


def write_confusion(
    path: Path, actual: np.ndarray, predicted: np.ndarray, names: list[str], counts: np.ndarray
) -> None:
    """Write one row per test image with the columns actual and predicted, for the template `confusion`.

    `actual` and `predicted` are labels, `names` and `counts` the classes' names and training counts. Up to CELLS
    classes the cells are class names; more are pooled with their neighbours in count to POOLS ranges.
    """
    cells = names
    if len(names) > CELLS:
        table = confusion(actual, predicted, counts, POOLS)
        titles = _titles(table, counts)
        cells = [titles[place] for place in table.bins]
    _write(path, ["actual", "predicted"], ((cells[a], cells[p]) for a, p in zip(actual, predicted, strict=True)))


def write_classes(path: Path, table: pd.DataFrame) -> None:
    """Write class, count, recall and group of the network `final`, most frequent class first, for `scatter`.

    Classes without test images, which have no recall, are left out.
    """
    final = table[(table["network"] == "final") & (table["support"] > 0)]
    final = final.sort_values(["count", "label"], ascending=[False, True], kind="stable")
    _write(
        path,
        ["class", "count", "recall", "group"],
        zip(final["class"], final["count"], map(_number, final["recall"]), final["group"], strict=True),
    )


def write_reliability(path: Path, bins: pd.DataFrame) -> None:
    """Write group, lower, upper, rows, confidence and accuracy of each bin that holds rows, for `scatter`."""
    filled = bins[bins["rows"] > 0]
    numbers = {name: filled[name].map(_number) for name in ("lower", "upper", "confidence", "accuracy")}
    names = ["group", "lower", "upper", "rows", "confidence", "accuracy"]
    _write(path, names, filled.assign(**numbers)[names].itertuples(index=False))


def write_search(path: Path, candidates: pd.DataFrame) -> None:
    """Write evaluation, generation, costs, score, standard_error and chosen of each scored candidate."""
    scored = candidates[candidates["score"].notna()]
    others = [name.column for name in named_in(scored.columns)]
    scored = scored.assign(
        **{name: scored[name].map(_number) for name in others},
        score=scored["score"].map(_number),
        standard_error=scored["standard_error"].map(_number),
        chosen=scored["chosen"].map({True: "yes", False: "no"}),
    )
    costs = [*(name.column for name in ALWAYS), *others]
    names = ["evaluation", "generation", *costs, "score", "standard_error", "chosen"]
    _write(path, names, scored[names].itertuples(index=False))


def _titles(table: Confusion, counts: np.ndarray) -> list[str]:
    """Return a title for each pool: its place, so that titles sort, and the range of its training counts."""
    titles = []
    for place in range(len(table.matrix)):
        inside = counts[table.bins == place]
        titles.append(f"{place + 1:02d}: {inside.max()}-{inside.min()} images")
    return titles


def _number(value: float) -> str:
    return f"{value:.6f}"


def _write(path: Path, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    write_bytes(path, csv_text(header, rows))
