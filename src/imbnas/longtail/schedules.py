"""Schedules of long-tailed training over the epochs: deferral, progressive balancing, cumulative learning."""

from __future__ import annotations

import math

from imbnas.errors import UserError


def switch_epoch(epochs: int, start: float) -> int:
    """Return the first 0-based epoch in which a deferred thing acts, ceil(start * epochs): 160 of 200 at 0.8.

    `start` is a share of the training in [0, 1]; 0 acts from the beginning, 1 never.

    Raises:
        UserError: for a start outside [0, 1] or fewer than 0 epochs.
    """
    if not 0.0 <= start <= 1.0 or epochs < 0:
        raise UserError(f"start {start} of {epochs} epochs: expected a share in [0, 1] of at least 0 epochs")
    # 0.7 * 10 is 7.000000000000001 in floating point, which must not become epoch 8.
    return math.ceil(start * epochs - 1e-9)


def progressive_weight(epoch: int, epochs: int) -> float:
    """Return the share of class-balanced sampling in the 0-based `epoch`: from 0 in the first to 1 in the last.

    Progressively balanced sampling (Kang et al. 2020). A training of one epoch gets 0.

    Raises:
        UserError: for an epoch outside [0, epochs).
    """
    _check_epoch(epoch, epochs)
    return epoch / (epochs - 1) if epochs > 1 else 0.0


def bbn_alpha(epoch: int, epochs: int) -> float:
    """Return the weight of BBN's conventional branch in the 0-based `epoch`: 1 - (epoch / epochs)^2 (Zhou et al. 2020).

    The paper's T is `epoch` + 1 and counts from T - 1, so that the first epoch trains that branch alone.

    Raises:
        UserError: for an epoch outside [0, epochs).
    """
    _check_epoch(epoch, epochs)
    return 1.0 - (epoch / epochs) ** 2


def _check_epoch(epoch: int, epochs: int) -> None:
    if not 0 <= epoch < epochs:
        raise UserError(f"epoch: found {epoch} of {epochs}, expected 0 to {epochs - 1}")
