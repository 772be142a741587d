"""The rows of a network's own project that judge its 8-bit copy: training and validation rows, and never test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imbnas.data.images import ImageStore
from imbnas.errors import UserError
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.saved import Network
from imbnas.steps.rows import Rows, read_tail, side_of, validation_rows

CALIBRATION_ROWS = 256


@dataclass(frozen=True)
class ProjectRows:
    """Rows that show which values a network's layers take, rows that judge it, and what the latter are in words."""

    calibration: Rows
    judges: Rows
    words: str


def project_rows(network: Network, root: Path, places: Mapping[str, Path]) -> ProjectRows:
    """Return the rows of the project at `root`, in which the network was trained.

    Training rows calibrate, all classes alike; validation rows judge, where there are any. Raises UserError where files
    are missing, and where the network was trained on others.
    """
    context = Context("export", root, Log("export"), places)
    tail, held_out = read_tail(context)
    calibration = calibration_rows(network, tail, context.path("target_train"))
    judges = validation_rows(context, held_out)
    if not len(judges):
        return ProjectRows(calibration, tail, "training rows, as no rows were left for validation")
    trained = (network.meta.get("recipe") or {}).get("rows", "train") != "train"
    return ProjectRows(calibration, judges, "validation rows" + ", which it was trained on" * trained)


def calibration_rows(network: Network, tail: Rows, file: Path) -> Rows:
    """Return up to CALIBRATION_ROWS of the training rows, of all classes alike as far as they go.

    Raises UserError naming the split's `file` where it is not the one on which the network was trained.
    """
    info, meta = tail.split.info, network.meta
    expected = (list(info.classes), list(info.shape), info.digest)
    if (meta["classes"], meta["shape"], (meta.get("digests") or {}).get("target_train")) != expected:
        raise UserError(
            f"{network.path}: was trained on other images than those of {file}, expected the project in which it was "
            "trained (--root)"
        )
    labels = tail.labels
    by_class = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return tail.at(np.argsort(rank, kind="stable")[:CALIBRATION_ROWS])


def store_of(rows: Rows) -> ImageStore:
    """Return the images of the rows as the network takes them."""
    return ImageStore(rows.split, rows.positions, "cpu", 0, side_of(rows.split))
