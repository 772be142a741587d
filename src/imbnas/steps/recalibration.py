"""The training rows on which BatchNorm statistics are measured anew, and measuring a subnet's."""

from __future__ import annotations

import numpy as np
import torch

from imbnas.params.recipe import CalibrationParams
from imbnas.seeds import stream
from imbnas.spaces.networks import Subnet
from imbnas.steps.rows import Rows
from imbnas.steps.workbench import TrainingStep
from imbnas.training.batchnorm import averaged, batchnorms
from imbnas.training.scoring import Batches


def calibration_rows(step: TrainingStep, params: CalibrationParams) -> Rows:
    """Return up to `params.rows` training rows, drawn once: like the long tail, or evenly over the classes.

    The search and a final training that inherits its weights draw the same ones.
    """
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


def calibrate(step: TrainingStep, network: Subnet, params: CalibrationParams) -> None:
    """Measure a network's BatchNorm statistics on the step's rows, as the search does for a path of the supernet."""
    rows = calibration_rows(step, params)
    augment, layers = step.augment(None), batchnorms(network)
    momenta = [layer.momentum for layer in layers]
    step.runtime.place(network).train()
    with torch.no_grad(), step.runtime.autocast():
        for images, _ in averaged(network, Batches(step.store(rows), params.batch_size)):
            network(step.runtime.lay_out(augment(images, None)))
    # Averaging has set them for its last batch; a training needs its own again.
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
