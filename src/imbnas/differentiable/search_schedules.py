"""Schedules over the epochs of a differentiable search: the mixing of two branches, and learning rates.

`epoch` counts from 0; the literature's T is epoch + 1 and its share (T - 1) / T_max is `epoch / epochs`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch

from imbnas.longtail.schedules import bbn_alpha

Mixing = Literal["parabolic", "symmetric", "half", "linear", "cosine", "fixed"]
RateSchedule = Literal["constant", "cumulative", "cosine", "freeze", "increasing"]
FREEZE = 0.5
"""`freeze` stops when BBN's parabolic factor falls below this."""
COLDEST = 1e-6
"""The lowest temperature: a lead of as much leaves an edge with one operation, and float32 divides by it."""


def mixing_factor(name: Mixing, epoch: int, epochs: int, fixed: float) -> float:
    """Return the weight of the uniformly sampled branch; the re-balancing branch has the rest.

    `parabolic` is BBN's 1 - t^2 (Zhou et al. 2020), `linear` 1 - t and `cosine` cos(t pi / 2) stand beside it in the
    authors' code; `half` is 1 - t^2 / 2 and ends at equal branches; `symmetric` is 0.5 throughout; `fixed` is given.
    """
    share = epoch / epochs
    return {
        "parabolic": bbn_alpha(epoch, epochs),
        "symmetric": 0.5,
        "half": 1.0 - 0.5 * share**2,
        "linear": 1.0 - share,
        "cosine": math.cos(share * math.pi / 2.0),
        "fixed": fixed,
    }[name]


def rate_share(name: RateSchedule, epoch: int, epochs: int) -> float:
    """Return the share of the architecture parameters' learning rate that acts in an epoch.

    `constant` is DARTS. `cumulative` is 1 - t^2: parameters rest as training passes to the re-balancing branch; that is
    how we read heterogeneous learning rate scheduling (arXiv 2406.07028), whose formula is not published. `cosine`
    decays to zero (after EX-DARTS, arXiv 2109.13466), `freeze` stops where 1 - t^2 falls below 0.5, and `increasing`,
    t^2, is the counter-hypothesis.
    """
    share = epoch / epochs
    parabolic = bbn_alpha(epoch, epochs)
    return {
        "constant": 1.0,
        "cumulative": parabolic,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * share)),
        "freeze": 1.0 if parabolic >= FREEZE else 0.0,
        "increasing": share**2,
    }[name]


def set_architecture_rate(optimizer: torch.optim.Optimizer, rate: float, decay: float, share: float) -> None:
    """Give the architecture's optimiser `share` of its learning rate and of its weight decay.

    Adam's step does not depend on the loss's scale, so the rate itself is set. Its weight decay enters the gradient and
    is scaled with it.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * share
        group["weight_decay"] = decay * share


def weight_rate(first: float, last: float, epoch: int, epochs: int) -> float:
    """Return the weights' learning rate in an epoch: half a cosine from `first` towards `last` (Liu et al. 2019)."""
    return last + 0.5 * (first - last) * (1.0 + math.cos(math.pi * epoch / epochs))


def skip_weight(name: Literal["none", "linear", "cosine"], epoch: int, epochs: int) -> float:
    """Return the weight of the auxiliary skip connection: from 1 to 0 over the search (DARTS-, Chu et al. 2021)."""
    share = epoch / epochs
    return {"none": 0.0, "linear": 1.0 - share, "cosine": 0.5 * (1.0 + math.cos(math.pi * share))}[name]


def temperature(first: float, factor: float, every: int, epoch: int) -> float:
    """Return sparsemax's temperature in an epoch: `first`, times `factor` at the start of each `every`-th later one.

    ZO-DARTS+ (arXiv 2405.03462) in its authors' code: 1.5, times 0.75 every 5 epochs, 0.113 in the last of 50.
    """
    return max(float(first * factor ** (epoch // every)), COLDEST)
