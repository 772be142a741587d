"""Losses that treat negatives by class: seesaw and softmax equalisation; and label-aware smoothing."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from imbnas.errors import UserError
from imbnas.longtail.crossentropy import CrossEntropy
from imbnas.longtail.weights import check_counts


class Seesaw(CrossEntropy):
    """Seesaw loss (Wang et al. 2021): a row of class y adds log(M_yj C_yj) to the logit of every other class j.

    Mitigation M_yj = (n_j / n_y)^p where n_j < n_y, else 1, spares rarer classes; compensation
    C_yj = (s_j / max(s_y, floor))^q where that ratio is above 1, else 1, punishes misplaced confidence. s is
    the softmax, without gradient. The paper counts rows while it trains; here the counts are the dataset's,
    which is what that counting converges to, and the loss stays without state.

    Args:
        counts: training rows of each class (C,).
        p: exponent of the mitigation, at least 0.
        q: exponent of the compensation, at least 0.
        floor: smallest score of the label in the compensation's ratio.
        **common: as for `CrossEntropy`.
    """

    name: ClassVar[str] = "seesaw"
    log_counts: Tensor

    def __init__(
        self, counts: ArrayLike, *, p: float = 0.8, q: float = 2.0, floor: float = 0.01, **common: Any
    ) -> None:
        super().__init__(counts, **common)
        if not (p >= 0.0 and q >= 0.0 and 0.0 < floor <= 1.0):
            raise UserError(f"p {p}, q {q}, floor {floor}: expected at least 0, at least 0, and in (0, 1]")
        self.p, self.q, self.floor = p, q, floor
        self.constant("log_counts", np.log(check_counts(counts)))

    def factors(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return log(M C) for each row and class (B, C), zero at the label and without gradient."""
        log_counts = self.log_counts.to(logits.dtype)
        scores = F.log_softmax(logits.detach(), dim=1)
        own = scores.gather(1, target[:, None]).clamp_min(float(np.log(self.floor)))
        mitigation = self.p * (log_counts - log_counts[target][:, None]).clamp_max(0.0)
        compensation = self.q * (scores - own).clamp_min(0.0)
        return (mitigation + compensation) * (1 - F.one_hot(target, self.classes))

    def adjust(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the logits plus the log-factors."""
        return logits + self.factors(logits, target)


class SoftmaxEqualization(CrossEntropy):
    """Softmax equalisation loss, SEQL (Tan et al. 2020): rare classes are left out of the softmax as negatives.

    For each row, each class other than the label whose share of the training rows is below `threshold` is left out with
    probability `gamma`. The draws are made on the CPU, so that every device draws alike.

    Args:
        counts: training rows of each class (C,).
        gamma: probability of leaving a rare negative out, in [0, 1].
        threshold: share of the training rows below which a class is rare.
        generator: CPU generator of the draws; None takes torch's global one.
        **common: as for `CrossEntropy`, without label smoothing, which would need a loss for left-out classes.
    """

    name: ClassVar[str] = "seql"
    capturable: ClassVar[bool] = False
    rare: Tensor

    def __init__(
        self,
        counts: ArrayLike,
        *,
        gamma: float = 0.9,
        threshold: float = 4.3e-4,
        generator: torch.Generator | None = None,
        **common: Any,
    ) -> None:
        super().__init__(counts, **common)
        if not 0.0 <= gamma <= 1.0:
            raise UserError(f"gamma: found {gamma}, expected a number in [0, 1]")
        values = check_counts(counts)
        self.gamma, self.generator = gamma, generator
        self.register_buffer("rare", torch.as_tensor(values / values.sum() < threshold), persistent=False)

    def left_out(self, target: Tensor) -> Tensor:
        """Draw which classes each row leaves out: (B, C) of bool on the target's device."""
        drawn = torch.rand((len(target), self.classes), generator=self.generator) < self.gamma
        return drawn.to(target.device) & self.rare & (F.one_hot(target, self.classes) == 0)

    def adjust(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the logits with minus infinity for the classes left out."""
        return logits.masked_fill(self.left_out(target), -torch.inf)


class LabelAwareSmoothing(CrossEntropy):
    """Label-aware smoothing (Zhong et al. 2021): (1 - e_y) (-log p_y) + e_y mean_c(-log p_c).

    e_k = tail + (head - tail) sin(pi/2 (n_k - n_min) / (n_max - n_min)): frequent classes are smoothed more. With equal
    counts no class is more frequent than another and every e_k is `tail`. Class weights multiply a row's loss.

    Args:
        counts: training rows of each class (C,).
        head: smoothing of the most frequent class, in [0, 1).
        tail: smoothing of the rarest class, in [0, head].
        **common: as for `CrossEntropy`, without a constant label smoothing.
    """

    name: ClassVar[str] = "label-aware-smoothing"
    smoothing: Tensor

    def __init__(self, counts: ArrayLike, *, head: float = 0.4, tail: float = 0.1, **common: Any) -> None:
        super().__init__(counts, **common)
        if not 0.0 <= tail <= head < 1.0:
            raise UserError(f"head {head} and tail {tail}: expected 0 <= tail <= head < 1")
        values = check_counts(counts)
        spread = max(values.max() - values.min(), 1.0)  # equal counts: 0 / 1 instead of the published 0 / 0
        curve = np.sin(0.5 * np.pi * (values - values.min()) / spread)
        self.constant("smoothing", tail + (head - tail) * curve)

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of every row (B,), before the mean."""
        scores = F.log_softmax(logits, dim=1)
        smoothing = self.smoothing.to(logits.dtype)[target]
        own = F.nll_loss(scores, target, reduction="none")
        losses = (1.0 - smoothing) * own - smoothing * scores.mean(dim=1)
        return losses if self.weight is None else self.weight.to(logits.dtype)[target] * losses
