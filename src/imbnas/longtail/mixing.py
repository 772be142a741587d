"""Mixup and Remix: training on convex combinations of two images and of their labels."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbnas.errors import UserError
from imbnas.longtail.weights import check_counts

Mixing = Literal["mixup", "remix"]


class Mixed(NamedTuple):
    """Two labels for each row: the target of every loss in `losses`."""

    first: Tensor
    """Class indices (N,)."""
    second: Tensor
    """Class indices (N,)."""
    share: Tensor
    """Share (N,) of the first label, in [0, 1], float64; the second has the rest."""


class Mixer:
    """Mixes each image of a batch with one of the same batch: x = lambda x_i + (1 - lambda) x_j.

    One lambda ~ Beta(alpha, alpha) and one permutation are drawn for a batch, as in the code of Zhang et al. 2018.
    With `mixup` the first label's share is lambda. With `remix` (Chou et al. 2020, arXiv 2007.03943) it is, for class
    counts n, 0 where n_i / n_j >= kappa and lambda < tau, 1 where n_i / n_j <= 1 / kappa and 1 - lambda < tau, else
    lambda: the rarer class takes the whole label where the frequent one has less than tau of the image.

    Args:
        name: `mixup` or `remix`.
        counts: training rows of each class (C,).
        alpha: of the Beta distribution, above 0; 1 is uniform.
        kappa: of `remix`, the least ratio of two counts at which a label is given away, at least 1; the paper has 3.
        tau: of `remix`, the frequent class's share of the image below which it is, in [0, 1]; the paper has 0.5.

    Raises:
        UserError: for an unknown name, a value outside of its range, or a class without rows.
    """

    def __init__(self, name: str, counts: ArrayLike, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5) -> None:
        if name not in get_args(Mixing):
            raise UserError(f"mixing: found {name!r}, expected one of {', '.join(get_args(Mixing))}")
        if not (alpha > 0.0 and np.isfinite(alpha)):
            raise UserError(f"mixing alpha: found {alpha}, expected a number above 0")
        if not (kappa >= 1.0 and np.isfinite(kappa)):
            raise UserError(f"mixing kappa: found {kappa}, expected a number of at least 1")
        if not 0.0 <= tau <= 1.0:
            raise UserError(f"mixing tau: found {tau}, expected a number in [0, 1]")
        self.name, self.alpha, self.kappa, self.tau = name, alpha, kappa, tau
        self._counts = torch.as_tensor(check_counts(counts))

    def __call__(self, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Mixed]:
        """Return mixed inputs (N, C, H, W), of floats as they were, and the labels (N,) of both with their shares.

        The same state of the CPU generator gives the same result; it moves on.
        """
        # torch has no public Beta distribution that takes a generator.
        draws = np.random.Generator(np.random.PCG64(int(torch.randint(2**63 - 1, (), generator=generator))))
        part = float(draws.beta(self.alpha, self.alpha))
        order = torch.randperm(len(labels), generator=generator).to(labels.device, non_blocking=True)
        mixed = part * inputs + (1.0 - part) * inputs.index_select(0, order)
        second = labels.index_select(0, order)
        return mixed, Mixed(labels, second, self.shares(labels, second, part))

    def shares(self, first: Tensor, second: Tensor, part: float) -> Tensor:
        """Return the first labels' shares (N,) where the images of `first` are the share `part` of the mixture."""
        shares = torch.full(first.shape, part, dtype=torch.float64, device=first.device)
        if self.name == "mixup":
            return shares
        counts = self._counts.to(first.device, non_blocking=True)
        here, there = counts[first], counts[second]
        # Products, since 1 / kappa is not exact. Where both cases hold (kappa 1, tau above 0.5) the paper's first acts.
        if 1.0 - part < self.tau:
            shares = shares.masked_fill(there >= self.kappa * here, 1.0)
        if part < self.tau:
            shares = shares.masked_fill(here >= self.kappa * there, 0.0)
        return shares
