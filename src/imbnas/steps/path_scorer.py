"""Scoring paths of the adapted supernet on validation rows, for the methods of `search` that sample paths."""

from __future__ import annotations

from imbnas.params.search import SearchView
from imbnas.search.trie import TrieScorer
from imbnas.spaces.networks import Supernet
from imbnas.steps.recalibration import calibration_rows
from imbnas.steps.rows import Rows
from imbnas.steps.supernets import build_adapted, read_adapted
from imbnas.steps.workbench import TrainingStep
from imbnas.training.scoring import Batches


def path_scorer(step: TrainingStep, view: SearchView, validation: Rows, supernet: Supernet | None = None) -> TrieScorer:
    """Return what scores paths of a supernet, the adapted one by default, on the rows that calibrate and judge them."""
    if supernet is None:
        adapted = read_adapted(step.context.path("adapted"), view.space, step.rows.split.info)
        supernet = step.placed(build_adapted(step.space, adapted))
    calibration = view.search.calibration
    return TrieScorer(
        step.runtime,
        supernet,
        Batches(step.store(calibration_rows(step, calibration)), calibration.batch_size),
        Batches(step.store(validation), view.search.batch_size),
        step.augment(None),
        step.classes,
        int(step.context.memory * 2**30),
        view.search.fold_batchnorm,
    )
