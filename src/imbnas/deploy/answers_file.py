"""Predictions as a file: CSV, JSON or Parquet by its suffix, written by rename."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from imbnas.csv_text import csv_text
from imbnas.data.stored import write_table
from imbnas.errors import UserError, visible, visible_json
from imbnas.files import check_writable, write_bytes

SUFFIXES = (".csv", ".json", ".parquet")


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, with their probabilities, in descending order.

    `abstained` says whether the likeliest is not likely enough to be an answer; None where that was not asked.
    """

    image: Path
    classes: list[tuple[str, float]]
    abstained: bool | None = None


def check_output(path: Path) -> None:
    """Raise UserError for a file of another suffix, or one that cannot be written, before any image is read."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    check_writable(path)


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write a row per image and class (CSV, Parquet), or an entry per image (JSON)."""
    check_output(path)
    if path.suffix == ".json":
        write_bytes(path, (predictions_json(predictions, unicode=True) + "\n").encode())
    elif path.suffix == ".csv":
        columns = _columns(predictions)
        shares = [f"{share:.6f}" for share in columns["probability"]]
        write_bytes(path, csv_text(columns, zip(*({**columns, "probability": shares}).values(), strict=True)))
    else:
        columns = _columns(predictions)
        kinds = {"image": pa.string(), "rank": pa.int32(), "class": pa.string(), "probability": pa.float64()}
        kinds |= {"abstained": pa.bool_()} if "abstained" in columns else {}
        write_table(path, pa.table({name: pa.array(columns[name], kind) for name, kind in kinds.items()}))


def predictions_json(predictions: Sequence[Prediction], unicode: bool) -> str:
    """Return the predictions as indented JSON, with letters beyond ASCII as they are or escaped."""
    entries = [
        {
            "image": str(one.image),
            "classes": [{"class": name, "probability": round(share, 6)} for name, share in one.classes],
            **({} if one.abstained is None else {"abstained": one.abstained}),
        }
        for one in predictions
    ]
    return visible_json(json.dumps(entries, indent=2, ensure_ascii=not unicode, allow_nan=False))


def _columns(predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
    rows = [(one, rank, name, share) for one in predictions for rank, (name, share) in enumerate(one.classes, 1)]
    columns: dict[str, list[Any]] = {
        "image": [visible(one.image) for one, _, _, _ in rows],
        "rank": [rank for _, rank, _, _ in rows],
        "class": [visible(name) for _, _, name, _ in rows],
        "probability": [share for _, _, _, share in rows],
    }
    if any(one.abstained is not None for one in predictions):
        columns["abstained"] = [bool(one.abstained) for one, _, _, _ in rows]
    return columns
