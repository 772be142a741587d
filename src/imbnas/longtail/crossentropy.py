"""Cross-entropy with class weights, in both conventions of its mean: the base of the long-tailed losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.longtail.mixing import Mixed
from imbnas.longtail.weights import check_counts
from imbnas.params.loss_options import LOSSES

Reduction = Literal["weighted-mean", "batch-mean"]
"""Divide the summed, weighted losses by the sum of the weights, or by the number of rows."""


class CrossEntropy(nn.Module):
    """Cross-entropy of logits (B, C) with targets (B,), as one number; the subclasses adjust the logits first.

    A target may be `mixing.Mixed`: each row then has the loss of its first label times that label's share plus the loss
    of its second label times the rest, and in a weighted mean its weight is mixed alike. Every loss here takes it;
    what depends on the label (LDAM's margin, seesaw's factors, SEQL's draws) is worked out for each label by itself.

    Logits in half precision are computed in float32; the result has that precision. All losses here are for training:
    at test time the plain logits are used. The buffers follow from the arguments, so they are not in the state
    dictionary; they are float64 and take the logits' precision when used.

    Args:
        counts: training rows of each class (C,).
        weight: class weights (C,); None weighs all alike.
        reduction: `weighted-mean` divides by the sum of the rows' weights (torch, Cao et al. 2019), so the weights'
            scale has no effect; `batch-mean` divides by the number of rows (the code of Cui et al. 2019).
            Without weights both are the plain mean.
        label_smoothing: share of the target probability spread over all classes; as in torch, the share that falls on
            class c carries the weight of class c.

    Raises:
        UserError: for a class without rows, weights of another length, an unknown reduction, or smoothing outside
            [0, 1) or where the loss does not define it.
    """

    name: ClassVar[str] = "ce"
    """As in `imbnas.params.loss_options.LOSSES`, which says whether it defines label smoothing."""
    capturable: ClassVar[bool] = True
    """Whether it asks the device for the same work for all batches of one shape, and draws nothing on the processor."""
    weight: Tensor | None

    def __init__(
        self,
        counts: ArrayLike,
        *,
        weight: ArrayLike | None = None,
        reduction: str = "weighted-mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes = len(check_counts(counts))
        if reduction not in get_args(Reduction):
            raise UserError(f"reduction: found {reduction!r}, expected one of {', '.join(get_args(Reduction))}")
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(f"label_smoothing: found {label_smoothing}, expected a number in [0, 1)")
        if label_smoothing and not LOSSES[self.name].smoothable:
            raise UserError(f"label_smoothing: found {label_smoothing}, expected 0: {type(self).__name__} has none")
        self.reduction, self.label_smoothing = reduction, label_smoothing
        self.register_buffer("weight", None, persistent=False)
        if weight is not None:
            self.constant("weight", weight)
            if self.weight is None or self.weight.shape != (self.classes,):
                raise UserError(f"weight: found another number of weights than {self.classes} classes")

    @classmethod
    def scaled(cls, options: dict[str, Any], scale: float) -> dict[str, Any]:
        """Return the options with which a head that multiplies by `scale` itself gives the loss that `options` ask for.

        They are the same ones unless the loss is of cosines (`cosine` in the table of losses).
        """
        return options

    def constant(self, name: str, values: ArrayLike) -> None:
        """Register `values` as a float64 buffer that moves with the module and is not saved."""
        self.register_buffer(name, torch.as_tensor(values, dtype=torch.float64).clone(), persistent=False)

    def adjust(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the logits (B, C) whose cross-entropy is the loss; here they are left as they are."""
        return logits

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of every row (B,), before the mean."""
        weight = None if self.weight is None else self.weight.to(logits.dtype)
        adjusted = self.adjust(logits, target)
        return F.cross_entropy(adjusted, target, weight=weight, reduction="none", label_smoothing=self.label_smoothing)

    def forward(self, logits: Tensor, target: Tensor | Mixed) -> Tensor:
        """Return the loss of logits (B, C) and class indices (B,), or mixed ones, as a scalar."""
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise ValueError(f"logits have shape {tuple(logits.shape)}, expected (rows, {self.classes})")
        if logits.dtype != torch.float64:
            logits = logits.float()
        losses = _mixed(lambda labels: self.losses(logits, labels), target)
        weight = self.weight
        if weight is None or self.reduction == "batch-mean":
            return losses.mean()
        return losses.sum() / _mixed(lambda labels: weight.to(losses.dtype)[labels], target).sum()


def _mixed(values: Callable[[Tensor], Tensor], target: Tensor | Mixed) -> Tensor:
    """Return `values` (B,) of the labels; of mixed ones their mean by share."""
    if isinstance(target, Tensor):
        return values(target)
    first, second = values(target.first), values(target.second)
    share = target.share.to(first.dtype)
    return share * first + (1.0 - share) * second
