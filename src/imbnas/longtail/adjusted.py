"""Losses that shift or scale each class's logits by a fixed function of the class counts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from imbnas.errors import UserError
from imbnas.longtail.crossentropy import CrossEntropy
from imbnas.longtail.weights import check_counts


class LDAM(CrossEntropy):
    """Label-distribution-aware margins (Cao et al. 2019): CE(scale * (cos - m_y at the label)), m_k ~ n_k^-1/4.

    The logits are cosines, from a `heads.CosineHead` of scale 1. Where the head has multiplied by s already, the same
    loss is `scale` 1 with `max_margin` 0.5 s.

    Args:
        counts: training rows of each class (C,).
        max_margin: margin of the rarest class.
        scale: factor of the cosines after the margin.
        **common: as for `CrossEntropy`.
    """

    name: ClassVar[str] = "ldam"
    margins: Tensor

    def __init__(self, counts: ArrayLike, *, max_margin: float = 0.5, scale: float = 30.0, **common: Any) -> None:
        super().__init__(counts, **common)
        if not (max_margin >= 0.0 and scale > 0.0):
            raise UserError(f"max_margin {max_margin} and scale {scale}: expected at least 0 and above 0")
        margins = check_counts(counts) ** -0.25
        self.scale = scale
        self.constant("margins", max_margin * margins / margins.max())

    @classmethod
    def scaled(cls, options: dict[str, Any], scale: float) -> dict[str, Any]:
        """Return scale 1 and margins as many times larger as the head has multiplied the cosines by."""
        return {"scale": 1.0, "max_margin": options["max_margin"] * scale}

    def adjust(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return scale * (cosines - margin of the label, at the label)."""
        at_label = F.one_hot(target, self.classes).to(logits.dtype)
        return self.scale * (logits - at_label * self.margins.to(logits.dtype))


class VS(CrossEntropy):
    """Vector scaling (Kini et al. 2021): CE(z / Delta + tau log pi), Delta_k = (n_max / n_k)^gamma, pi_k = n_k / N.

    gamma 0 is the logit-adjusted loss, tau 0 is CDT.

    Args:
        counts: training rows of each class (C,).
        gamma: exponent of the class temperatures, at least 0.
        tau: strength of the log-prior, at least 0.
        **common: as for `CrossEntropy`.
    """

    name: ClassVar[str] = "vs"
    divisors: Tensor
    offsets: Tensor

    def __init__(self, counts: ArrayLike, *, gamma: float = 0.3, tau: float = 1.0, **common: Any) -> None:
        super().__init__(counts, **common)
        if not (gamma >= 0.0 and tau >= 0.0):
            raise UserError(f"gamma {gamma} and tau {tau}: expected numbers of at least 0")
        values = check_counts(counts)
        self.constant("divisors", (values.max() / values) ** gamma)
        # The published code has log(pi^tau + 1e-12), which bends the prior of thousands of classes at tau 2.
        self.constant("offsets", tau * np.log(values / values.sum()))

    def adjust(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the logits divided by the class temperatures and shifted by the log-priors."""
        return logits / self.divisors.to(logits.dtype) + self.offsets.to(logits.dtype)


class LogitAdjusted(VS):
    """Logit-adjusted loss (Menon et al. 2021): CE(z + tau log pi) in training, plain logits at test.

    Never to be combined with the post-hoc adjustment, which would subtract the prior a second time.

    Args:
        counts: training rows of each class (C,).
        tau: strength of the log-prior, at least 0.
        **common: as for `CrossEntropy`.
    """

    name: ClassVar[str] = "logit-adjustment"

    def __init__(self, counts: ArrayLike, *, tau: float = 1.0, **common: Any) -> None:
        super().__init__(counts, gamma=0.0, tau=tau, **common)


class BalancedSoftmax(LogitAdjusted):
    """Balanced softmax (Ren et al. 2020): CE(z + log n), which is the logit-adjusted loss at tau 1.

    Args:
        counts: training rows of each class (C,).
        **common: as for `CrossEntropy`.
    """

    name: ClassVar[str] = "balanced-softmax"

    def __init__(self, counts: ArrayLike, **common: Any) -> None:
        super().__init__(counts, tau=1.0, **common)


class CDT(VS):
    """Class-dependent temperatures (Ye et al. 2020): CE(z / (n_max / n_k)^gamma), in training only.

    The paper takes gamma up to 0.4 for CIFAR-10, 0.2 for CIFAR-100 and 0.1 for iNaturalist.

    Args:
        counts: training rows of each class (C,).
        gamma: exponent of the class temperatures, at least 0.
        **common: as for `CrossEntropy`.
    """

    name: ClassVar[str] = "cdt"

    def __init__(self, counts: ArrayLike, *, gamma: float = 0.2, **common: Any) -> None:
        super().__init__(counts, gamma=gamma, tau=0.0, **common)
