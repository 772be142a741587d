"""The long-tailed losses by name, and the focal loss."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.longtail.adjusted import CDT, LDAM, VS, BalancedSoftmax, LogitAdjusted
from imbnas.longtail.crossentropy import CrossEntropy
from imbnas.longtail.suppression import LabelAwareSmoothing, Seesaw, SoftmaxEqualization
from imbnas.longtail.weights import class_weights
from imbnas.params.loss_options import LOSSES


class Focal(CrossEntropy):
    """Softmax focal loss (Lin et al. 2017): w_y (1 - p_y)^gamma (-log p_y); the weight stays outside of p.

    Args:
        counts: training rows of each class (C,).
        gamma: exponent of the modulating factor, at least 0.
        **common: as for `CrossEntropy`, without label smoothing.
    """

    name: ClassVar[str] = "focal"

    def __init__(self, counts: ArrayLike, *, gamma: float = 2.0, **common: Any) -> None:
        super().__init__(counts, **common)
        if not gamma >= 0.0:
            raise UserError(f"gamma: found {gamma}, expected a number of at least 0")
        self.gamma = gamma

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of every row (B,), before the mean."""
        plain = F.cross_entropy(logits, target, reduction="none")
        # Below gamma 1 the factor's slope is infinite at p = 1: the clamp cuts it off there.
        missing = -torch.expm1(-plain)
        factor = missing.clamp_min(torch.finfo(logits.dtype).tiny) ** self.gamma
        losses = factor * plain
        return losses if self.weight is None else self.weight.to(logits.dtype)[target] * losses


_CLASSES: tuple[type[CrossEntropy], ...] = (
    CrossEntropy,
    Focal,
    LDAM,
    BalancedSoftmax,
    LogitAdjusted,
    VS,
    CDT,
    Seesaw,
    SoftmaxEqualization,
    LabelAwareSmoothing,
)
LOSS_CLASSES: dict[str, type[CrossEntropy]] = {
    **{name: CrossEntropy for name, entry in LOSSES.items() if entry.weights is not None},
    **{kind.name: kind for kind in _CLASSES},
}
"""The class of each loss in `imbnas.params.loss_options.LOSSES`, which declares everything else of it."""

LOSS_NAMES: tuple[str, ...] = tuple(LOSSES)
"""The names that `build_loss` knows."""


def loss_options(name: str) -> tuple[str, ...]:
    """Return the names of the options that only the loss `name` has, besides those of all losses.

    Raises:
        UserError: for an unknown name.
    """
    kind = _find(name)
    if kind is CrossEntropy:
        return ()
    own = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return (*own, "weighting")


def capturable(name: str) -> bool:
    """Return whether the loss `name` does the same work for all batches of one shape, see `CrossEntropy.capturable`.

    Raises:
        UserError: for an unknown name.
    """
    return _find(name).capturable


def build_loss(
    name: str,
    counts: Sequence[int],
    *,
    beta: float = 0.9999,
    reduction: str = "weighted-mean",
    label_smoothing: float = 0.0,
    **options: Any,
) -> nn.Module:
    """Return the loss `name`, a module from logits (B, C) and targets (B,) to a scalar.

    Args:
        name: one of `LOSS_NAMES`.
        counts: training rows of each class (C,), of the whole training split.
        beta: of effective-number weights; the other weightings have no use for it.
        reduction: `weighted-mean` or `batch-mean`, see `crossentropy.CrossEntropy`; alike without class weights.
        label_smoothing: share of the target probability spread over all classes.
        **options: those of the loss's class (`loss_options` lists them), for instance `gamma`; and `weighting` (`none`,
            `inverse-frequency`, `effective-number`) for losses whose name does not say it.

    Raises:
        UserError: for an unknown name, option or value, a class without rows (by its index), or label smoothing with
            a loss that does not define it (focal, seql, label-aware-smoothing).
    """
    kind = _find(name)
    allowed = loss_options(name)
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise UserError(f"loss {name}: found the option {unknown[0]}, expected {', '.join(allowed) or 'none'}")
    weighting = LOSSES[name].weights or options.pop("weighting", "none")
    weight = class_weights(weighting, counts, beta)
    return kind(counts, weight=weight, reduction=reduction, label_smoothing=label_smoothing, **options)


def _find(name: str) -> type[CrossEntropy]:
    if name not in LOSS_CLASSES:
        raise UserError(f"loss: found {name!r}, expected one of {', '.join(LOSS_NAMES)}")
    return LOSS_CLASSES[name]
