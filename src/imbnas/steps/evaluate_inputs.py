"""The inputs of the step `evaluate`, checked to belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from imbnas.approximate.chosen_table import described
from imbnas.cost_names import ALWAYS, BESIDE
from imbnas.data.stored import Split, read_columns, read_split
from imbnas.errors import UserError
from imbnas.files import read_json
from imbnas.params.evaluate import EvaluateView
from imbnas.report.front_table import read_candidates, read_front
from imbnas.run.context import Context
from imbnas.saved import Network, load_references, load_subnet

FACTS = ("choose", "best", "within_one_error", "halves", *(f"tau_{name.figure}" for name in ALWAYS))
"""What of results/search.json details.json repeats."""
OTHER_FACTS = ("shifting", *(f"tau_{name.figure}" for name in BESIDE))
"""What it repeats where it is there."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of the step: the test split, the training rows of each class, the search, the networks by name."""

    test: Split
    counts: np.ndarray
    imbalance: dict[str, Any]
    search: dict[str, Any]
    facts: dict[str, Any]
    candidates: pd.DataFrame
    front: pd.DataFrame
    networks: dict[str, Network]


def read_inputs(view: EvaluateView, context: Context) -> Inputs:
    """Read all inputs and check that they belong together."""
    test = read_split(context.path("target_test"), context.root)
    if not test.info.rows:
        raise UserError(f"{context.path('target_test')}: holds no rows, expected a test split, run target")
    counts, imbalance = _read_tail(context, len(test.info.classes))
    search = read_json(context.path("architecture"), "the output of `imbnas search`")
    if not isinstance(search, dict) or not {"chosen", "objective", "limits"} <= set(search):
        raise UserError(f"{context.path('architecture')}: not an architecture file, run search")
    facts = read_json(context.path("search_facts"), "the output of `imbnas search`")
    if not isinstance(facts, dict) or not set(FACTS) <= set(facts):
        raise UserError(f"{context.path('search_facts')}: not the facts of a search, run search")
    references = load_references(context.path("references"))
    networks = {"final": load_subnet(context.path("final")), **references}
    for name, network in networks.items():
        _check(context, "final" if name == "final" else "references", network, view, test, counts)
    final = networks["final"].meta
    if final["architecture"] != search["chosen"]["architecture"]:
        raise UserError(
            f"{context.path('final')}: another architecture than {context.path('architecture')}, run retrain"
        )
    front = read_front(context.path("front"))
    return Inputs(test, counts, imbalance, search, facts, _read_candidates(context), front, networks)


def _read_tail(context: Context, classes: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the long tail's training rows of each class, and what results/imbalance.json says of it."""
    path = context.path("imbalance")
    table = read_columns(context.path("longtail"), {"label": pa.int64(), "split": pa.string()}).to_pandas()
    counts = np.bincount(table.loc[table["split"] == "train", "label"], minlength=classes)
    imbalance = read_json(path, "the output of `imbnas imbalance`")
    if not isinstance(imbalance, dict) or imbalance.get("counts") != counts.tolist():
        raise UserError(f"{path}: its counts are not those of {context.path('longtail')}, run imbalance")
    return counts, imbalance


def _read_candidates(context: Context) -> pd.DataFrame:
    costs = [name.column for name in ALWAYS]
    columns = ["evaluation", "generation", "architecture", "score", "standard_error", *costs, "chosen"]
    return read_candidates(context.path("search"), columns, "a table")


def _check(context: Context, file: str, network: Network, view: EvaluateView, test: Split, counts: np.ndarray) -> None:
    """Raise UserError when a network was made for another space, other images, or another long tail."""
    path, meta, info = context.path(file), network.meta, test.info
    expected = {
        "space": view.space.described,
        "classes": list(info.classes),
        "shape": list(info.shape),
        "counts": counts.tolist(),
        "approximate": described(view.approximate),
    }
    for key, value in expected.items():
        if meta.get(key) != value:
            raise UserError(f"{path}: its {key} are not those of the parameters and the target, run retrain")
    if view.evaluate.logit_adjustment > 0.0:
        _check_adjustable(path, meta.get("trained_counts"), len(info.classes))


def _check_adjustable(path: Path, counts: Any, classes: int) -> None:
    """Raise UserError unless a network's metadata say on how many rows of each class it was trained, none on 0."""
    if not isinstance(counts, list) or len(counts) != classes:
        raise UserError(f"{path}: has no trained_counts, which evaluate.logit_adjustment needs, run retrain")
    if min(counts) < 1:
        raise UserError(
            f"evaluate.logit_adjustment: class {counts.index(min(counts))} of {path} has no training rows, "
            "expected some of every class, or a logit_adjustment of 0.0"
        )
