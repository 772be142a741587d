"""The truth that emulated convolutions are compared with: loops over pixels in int32, one product after the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from imbnas.approximate.emulation import Geometry
from imbnas.approximate.product_tables import ProductTable, codes
from imbnas.approximate.quantisation import Quantised


def accumulators(x: Quantised, kernel: Quantised, table: ProductTable, geometry: Geometry) -> np.ndarray:
    """Return sum (table(a, b) - y a - z b + z y) for each output, in int32."""
    low = int(codes(table.signed)[0])
    a, b = x.codes.numpy().astype(np.int32), kernel.codes.numpy().astype(np.int32)
    z, y = x.zero.numpy().astype(np.int32)[:, :, 0, 0], int(kernel.zero.item())
    values = table.values.astype(np.int32)
    rows, columns = b.shape[2:]
    (down, right), (high, wide) = geometry.stride, geometry.dilation
    sides = [
        (a.shape[2 + k] - d * (n - 1) - 1) // s + 1
        for k, (n, s, d) in enumerate(((rows, down, high), (columns, right, wide)))
    ]
    out = np.zeros((len(a), len(b), *sides), np.int32)
    width, outputs = b.shape[1], len(b) // geometry.groups
    for channel in range(len(b)):
        group = channel // outputs
        part = a[:, group * width : (group + 1) * width]
        for i in range(sides[0]):
            for j in range(sides[1]):
                top, left = i * down, j * right
                patch = part[
                    :, :, top : top + high * (rows - 1) + 1 : high, left : left + wide * (columns - 1) + 1 : wide
                ]
                other = b[channel][None]
                products = values[patch - low, other - low] - y * patch - z[:, :, None, None] * other
                out[:, channel, i, j] = products.sum((1, 2, 3), dtype=np.int32) + width * rows * columns * z[:, 0] * y
    return out


def equal(found: Tensor, expected: np.ndarray) -> bool:
    """Return whether a tensor of floats holds exactly these numbers."""
    return bool(torch.equal(found.double(), torch.from_numpy(expected).double()))
