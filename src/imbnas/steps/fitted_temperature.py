"""The temperature that the final network carries, fitted on validation rows by `retrain`."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from imbnas.longtail.temperature import fit_temperature
from imbnas.params.retrain import RetrainParams
from imbnas.steps.rows import Rows
from imbnas.steps.workbench import TrainingStep

BATCH = 512
"""Validation rows in one forward pass."""
TRAINED_ON = "its training had the validation rows too (retrain.rows)"
NO_ROWS = "there were no validation rows to fit one on (target.validation)"
NOT_FINITE = "its answers on the validation rows are not finite numbers"


@torch.no_grad()
def network_temperature(step: TrainingStep, retrain: RetrainParams, network: nn.Module, rows: Rows) -> dict[str, Any]:
    """Return what the network's metadata say of its temperature: the value, or why there is none.

    `rows` are the validation rows. A network is too sure of what it was trained on, so that these would tell nothing
    where they were. The network is left in evaluation mode.
    """
    if retrain.rows != "train":
        return {"value": None, "reason": TRAINED_ON}
    if not len(rows):
        return {"value": None, "reason": NO_ROWS}
    runtime, augment = step.runtime, step.augment(None, rows)
    runtime.place(network).eval()
    found = [
        network(runtime.lay_out(augment(images, None))).double().cpu() for images, _ in step.store(rows).ordered(BATCH)
    ]
    logits = torch.cat(found)
    if not bool(torch.isfinite(logits).all()):
        return {"value": None, "reason": NOT_FINITE}
    fitted = fit_temperature(logits.numpy(), rows.labels)
    return dataclasses.asdict(fitted) | {"nll": list(fitted.nll)}
