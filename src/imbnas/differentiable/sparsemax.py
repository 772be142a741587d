"""Sparsemax (Martins and Astudillo 2016, arXiv 1602.02068): the Euclidean projection on the probability simplex."""

from __future__ import annotations

import torch
from torch import Tensor


def sparsemax(values: Tensor) -> Tensor:
    """Return the projection of each row of `values` (..., N): argmin_p |p - values| over p >= 0 with sum 1.

    It is max(values - t, 0) with the one t that makes the sum 1; entries at or below t are exactly 0, and the largest
    entry has all where it leads by 1 or more. On the support S the Jacobian is the identity less 1 / |S|, elsewhere 0.
    """
    # The projection does not depend on a common shift; from the largest entry a single survivor is exactly 1.
    shifted = values - values.detach().amax(dim=-1, keepdim=True)
    with torch.no_grad():
        support = _support(shifted)
    size = support.sum(dim=-1, keepdim=True)
    threshold = ((shifted * support).sum(dim=-1, keepdim=True) - 1.0) / size
    # Rounding may leave an entry at the threshold a little below 0.
    return ((shifted - threshold) * support).relu()


def _support(values: Tensor) -> Tensor:
    """Return 1 for the entries that keep a share and 0 for the others.

    With entries in descending order it is the longest head of k of them whose k-th satisfies 1 + k z_k > z_1 + ... +
    z_k. The sums are products with a triangle: `cumsum` has no deterministic kernel on a GPU.
    """
    count = values.shape[-1]
    ordered = values.sort(dim=-1, descending=True).values
    triangle = torch.ones(count, count, dtype=values.dtype, device=values.device).tril()
    sums = (ordered.unsqueeze(-2) * triangle).sum(dim=-1)
    places = torch.arange(1, count + 1, dtype=values.dtype, device=values.device)
    size = (1.0 + places * ordered > sums).sum(dim=-1, keepdim=True)
    last = ordered.gather(-1, size - 1)
    return (values >= last).to(values.dtype)
