"""Scoring paths of the adapted supernet on validation rows, for the methods of `search` that sample paths."""

from __future__ import annotations

import numpy as np

from imbnas.params.search import CalibrationParams, SearchView
from imbnas.search.trie import TrieScorer
from imbnas.seeds import stream
from imbnas.steps.rows import Rows
from imbnas.steps.supernets import build_adapted, read_adapted
from imbnas.steps.workbench import TrainingStep
from imbnas.training.scoring import Batches


def path_scorer(step: TrainingStep, view: SearchView, validation: Rows) -> TrieScorer:
    """Build the adapted supernet and the rows on which paths are calibrated and scored."""
    adapted = read_adapted(step.context.path("adapted"), view.space, step.rows.split.info)
    calibration = view.search.calibration
    return TrieScorer(
        step.runtime,
        build_adapted(step.space, adapted),
        Batches(step.store(calibration_rows(step, calibration)), calibration.batch_size),
        Batches(step.store(validation), view.search.batch_size),
        step.augment(None),
        step.classes,
        int(step.context.memory * 2**30),
    )


def calibration_rows(step: TrainingStep, params: CalibrationParams) -> Rows:
    """Return up to `params.rows` training rows, drawn once: like the long tail, or evenly over the classes."""
    rows = step.rows
    order = stream(step.seed, "search", "calibration").permutation(len(rows))
    if params.sampling == "balanced":
        labels = rows.labels[order]
        # The rank of each row within its class: taking low ranks first serves all classes alike.
        by_class = np.argsort(labels, kind="stable")
        sizes = np.bincount(labels)
        rank = np.empty(len(order), dtype=np.int64)
        rank[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        order = order[np.argsort(rank, kind="stable")]
    return rows.at(order[: params.rows])
