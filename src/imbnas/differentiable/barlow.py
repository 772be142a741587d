"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): learning features without labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def cross_correlation(first: Tensor, second: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the (D, D) correlations of two views' outputs (N, D), each feature normalised over the batch.

    The variance is the biased one and gets `eps`, as in BatchNorm.
    """
    sides = []
    for view in (first.float() if first.dtype != torch.float64 else first, second.to(first.dtype)):
        centred = view - view.mean(dim=0)
        sides.append(centred * (centred.square().mean(dim=0) + eps).rsqrt())
    return sides[0].T @ sides[1] / len(first)


def barlow_twins(first: Tensor, second: Tensor, off_diagonal: float) -> Tensor:
    """Return sum_i (c_ii - 1)^2 + off_diagonal * sum_(i != j) c_ij^2 for the outputs (N, D) of two views."""
    correlation = cross_correlation(first, second)
    diagonal = correlation.diagonal()
    squares = correlation.square().sum() - diagonal.square().sum()
    return (diagonal - 1.0).square().sum() + off_diagonal * squares


class Projector(nn.Sequential):
    """Three linear layers without bias, the first two with BatchNorm and ReLU, on top of the features."""

    def __init__(self, features: int, hidden: int, outputs: int) -> None:
        """Draw weights from torch's global generator."""
        super().__init__(
            nn.Linear(features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, outputs, bias=False),
        )
        self.outputs = outputs
