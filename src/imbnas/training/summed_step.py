"""One optimiser step of a supernet on the summed loss of several of its paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from imbnas.seeds import derive
from imbnas.training.batchnorm import untracked
from imbnas.training.definition import Loss
from imbnas.training.optimizer import Optimizer
from imbnas.training.runtime import Runtime, drawing


def summed_step(
    runtime: Runtime,
    model: nn.Module,
    optimizer: Optimizer,
    loss: Loss,
    batch: tuple[Tensor, Tensor],
    paths: Sequence[Any],
    seed: int,
    clip: float = 0.0,
) -> None:
    """Move the weights W by the gradient of sum over paths p of loss(model(inputs, p), labels), all at the same W.

    BatchNorm normalises with the batch's statistics of each path and keeps its running ones, which belong to no path.
    `seed` is of what the model and the loss draw; the gradients' norm is at most `clip`, 0 does not clip.
    """
    inputs, labels = batch
    runtime.seed(derive(seed, "model"))
    optimizer.zero_grad()
    model.train()
    with untracked(model):
        for number, path in enumerate(paths):
            outputs = runtime.forward(model, runtime.lay_out(inputs), path)
            with drawing(derive(seed, "loss", number)):
                loss(outputs, labels).backward()
    if clip:
        optimizer.clip(clip)
    optimizer.step()
    optimizer.zero_grad()
