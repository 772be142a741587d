"""The ETF classifier of LT-DARTS (Pan et al. 2025): fixed class vectors at equal angles, for features to meet."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EtfHead(nn.Module):
    """Cosines of features and a fixed simplex equiangular tight frame, times `scale`.

    The C class vectors have length 1 and pairwise cosines -1 / (C - 1), the most that C vectors can be apart, for
    frequent and rare classes alike (neural collapse: Papyan et al. 2020, Yang et al. 2022). They need C - 1 dimensions;
    where there are fewer features, a linear map without bias to as many is trained before them. The vectors are a
    buffer, so that nothing moves them; their orientation is drawn from torch's global generator.

    Args:
        features: width F of the features.
        classes: number of classes C.
        scale: factor of the cosines.
    """

    vectors: Tensor

    def __init__(self, features: int, classes: int, scale: float = 30.0) -> None:
        super().__init__()
        self.scale = scale
        wanted = max(1, classes - 1)
        self.projection = nn.Linear(features, wanted, bias=False) if features < wanted else nn.Identity()
        self.register_buffer("vectors", simplex(max(features, wanted), classes))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, C) in [-scale, scale] of features (B, F)."""
        return self.scale * F.linear(F.normalize(self.projection(features)), self.vectors)


def simplex(width: int, classes: int) -> Tensor:
    """Return the class vectors (C, width) of a simplex in a random orientation, float32; width is C - 1 or more.

    They are sqrt(C / (C - 1)) (I - 11'/C) U' with orthonormal columns of U. A single class has one unit vector.
    """
    drawn = torch.randn(width, max(1, classes - 1), dtype=torch.float64)
    if drawn.is_meta:
        return torch.empty(classes, width)
    turned = torch.linalg.qr(drawn).Q
    if classes == 1:
        return turned.T.float()
    # Orthonormal columns that are orthogonal to the vector of ones (Helmert): the centred unit vectors' coordinates.
    corners = torch.zeros(classes, classes - 1, dtype=torch.float64)
    for k in range(1, classes):
        corners[:k, k - 1] = 1.0 / math.sqrt(k * (k + 1))
        corners[k, k - 1] = -k / math.sqrt(k * (k + 1))
    return (math.sqrt(classes / (classes - 1)) * corners @ turned.T).float()
