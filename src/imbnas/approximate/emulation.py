"""The sums of a convolution under an approximate multiplier, exact to the last integer, by ordinary convolutions.

A table of products is a b + E(a, b). Where E has a small rank r it is a sum of r products u_k(a) v_k(b) of whole
numbers (`low_rank.py`), and so

    sum table(a, b) = conv(a, b) + sum_k conv(u_k(a), v_k(b)):

r + 1 ordinary convolutions. Where codes have no zero point and the table itself has a rank of at most r + 1, its own
factors do: one convolution for a truncating multiplier. A float holds whole numbers without rounding below 2^24, a
double below 2^53, and a sum of such numbers is exact in any order as long as all partial sums stay below. A table
without small factors is looked up, product by product.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.approximate.low_rank import integer_factors
from imbnas.approximate.product_tables import SIDE, ProductTable, codes, truncate
from imbnas.approximate.quantisation import Quantised

MOST_TERMS = 64
"""Rank of a table from which looking products up is about as fast as so many convolutions."""
FLOAT, DOUBLE = 2**24, 2**53
"""Sums below these are exact in float32 and float64."""
MOST_PRODUCTS = 2**20
"""Products in one number of a result; the widest published layers have a tenth."""
CHUNK = 2**22
"""Products that are looked up at once."""


@dataclass(frozen=True)
class Geometry:
    """The moves of a kernel over an input that is padded already."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class Factor(nn.Module):
    """A whole number for each code of an operand: computed where it is a truncation times a number, else looked up."""

    def __init__(self, vector: np.ndarray, signed: bool) -> None:
        """Take the numbers in ascending order of the code."""
        super().__init__()
        self.most = int(np.abs(vector).max(initial=0))
        self.low = int(codes(signed)[0])
        self.truncation = _truncation(vector, codes(signed))
        # Not part of a network's state: the multiplier is saved once, beside it.
        values = torch.empty(0) if self.truncation else torch.from_numpy(vector.astype(np.float64))
        self.register_buffer("vector", values, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map codes to numbers, in the type of `x`."""
        if self.truncation:
            step, times = self.truncation
            kept = x if step == 1 else torch.floor(x / step) * step
            return kept if times == 1 else kept * times
        return look_up(self.vector, x - self.low).to(x.dtype)  # type: ignore[arg-type]


def _truncation(vector: np.ndarray, values: np.ndarray) -> tuple[int, int] | None:
    """Return (2^k, c) where the vector is c times the codes without their lowest k bits, None where it is not."""
    for bits in range(8):
        kept = truncate(values, bits)
        place = int(np.argmax(np.abs(kept)))
        times, rest = divmod(int(vector[place]), int(kept[place]))
        if times and not rest and np.array_equal(times * kept, vector):
            return 2**bits, times
    return None


def _largest(left: np.ndarray, right: np.ndarray) -> int:
    """Return the largest sum of the terms' absolute values for any pair of codes, at most."""
    pairs = zip(np.abs(left).max(axis=0).tolist(), np.abs(right).max(axis=1).tolist(), strict=True)
    return sum(one * other for one, other in pairs)


def look_up(vector: Tensor, places: Tensor) -> Tensor:
    """Return the entries of a vector at places that are whole numbers as floats; NaN reads the first entry."""
    index = places.to(torch.int32).clamp(0, len(vector) - 1)
    return vector.index_select(0, index.flatten()).view(index.shape)


class Multiplier(nn.Module):
    """A multiplier that convolutions share. It has no state of its own: `table` says all."""

    def __init__(self, table: ProductTable, most_terms: int = MOST_TERMS) -> None:
        """Decompose the table; `most_terms` of -1 looks all products up."""
        super().__init__()
        self.table = table
        deviation = integer_factors(table.deviation, most_terms) if most_terms >= 0 else None
        rank = most_terms if deviation is None else deviation[0].shape[1]
        whole = integer_factors(table.values, min(rank + 1, most_terms)) if table.signed and rank > 0 else None
        self.whole = whole is not None
        """Whether the terms make up the table itself, not what it deviates by."""
        chosen = deviation if whole is None else whole
        self._size = 0 if chosen is None else _largest(*chosen) + (0 if self.whole else (SIDE - 1) ** 2)
        if self._size * MOST_PRODUCTS >= DOUBLE:
            chosen, self.whole = None, False
        self.found = chosen is not None
        """Whether there are terms; else products are looked up."""
        left, right = (np.zeros((SIDE, 0), int), np.zeros((0, SIDE), int)) if chosen is None else chosen
        self.left = nn.ModuleList(Factor(vector, table.signed) for vector in left.T)
        self.right = nn.ModuleList(Factor(vector, table.signed) for vector in right)
        looked_up = torch.empty(0) if self.found else torch.from_numpy(table.deviation.astype(np.float64)).flatten()
        self.register_buffer("deviation", looked_up, persistent=False)

    @property
    def convolutions(self) -> int | None:
        """The number of ordinary convolutions that one takes, None where products are looked up."""
        return len(self.left) + (not self.whole) if self.found else None

    def sums(self, x: Quantised, kernel: Quantised, geometry: Geometry) -> Tensor:
        """Return, as floats without rounding, what accumulators hold in the end: zero points are taken off.

        For codes a and b with zero points z and y that is the sum of table(a, b) - y a - z b + z y.
        """
        wide = self._dtype(kernel.codes[0].numel())
        total: Tensor | None = None
        if not self.whole:
            inputs, weights = (x.codes - x.zero).to(wide), (kernel.codes - kernel.zero).to(wide)
            total = convolve(inputs, weights, geometry)
        for left, right in zip(self.left, self.right, strict=True):
            term = convolve(left(x.codes.to(wide)), right(kernel.codes.to(wide)), geometry)
            total = term if total is None else total + term
        assert total is not None
        return total if self.found else total + self._looked_up(x.codes, kernel.codes, geometry)

    def _dtype(self, products: int) -> torch.dtype:
        """Return the type in which sums of so many products are exact."""
        if not self.found:
            return torch.float64
        return torch.float32 if products * self._size < FLOAT else torch.float64

    def _looked_up(self, x: Tensor, kernel: Tensor, geometry: Geometry) -> Tensor:
        """Return the sums of what the table deviates by, looked up in chunks."""
        low = int(codes(self.table.signed)[0])
        sides = [
            (x.shape[2 + axis] - geometry.dilation[axis] * (kernel.shape[2 + axis] - 1) - 1) // geometry.stride[axis]
            + 1
            for axis in (0, 1)
        ]
        columns = F.unfold(x - low, kernel.shape[2:], geometry.dilation, stride=geometry.stride)
        columns = columns.unflatten(1, (geometry.groups, -1))
        rows = (kernel - low).flatten(1).unflatten(0, (geometry.groups, -1))
        step = max(1, CHUNK // max(1, columns[:, 0].numel()))
        found = []
        for group in range(geometry.groups):
            for chunk in rows[group].split(step):
                places = columns[:, group, None] * SIDE + chunk[None, :, :, None]
                found.append(look_up(self.deviation, places).sum(2))  # type: ignore[arg-type]
        return torch.cat(found, dim=1).unflatten(2, sides)


def convolve(x: Tensor, kernel: Tensor, geometry: Geometry) -> Tensor:
    """Return a convolution whose every product and sum is one: no transform, no shorter mantissa."""
    with _plainly(x.device.type):
        return F.conv2d(x, kernel, None, geometry.stride, 0, geometry.dilation, geometry.groups)


@contextmanager
def _plainly(device: str) -> Iterator[None]:
    """Keep from Winograd's transform, which rounds, and from inputs of ten bits, whatever the run's precision is."""
    if device != "cuda":
        with torch.backends.nnpack.flags(enabled=False):
            yield
        return
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        matmul.fp32_precision = before
