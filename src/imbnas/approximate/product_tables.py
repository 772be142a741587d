"""Multipliers of two 8-bit numbers as tables of all 65,536 products: by definition, or read from a user's file."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from imbnas.errors import UserError
from imbnas.files import read_regular

SIDE = 256
"""Codes of an operand."""
SPAN = 2**16
"""Codes of a product, of which the errors in percent are shares."""
FILE_LIMIT = 2**20
"""Bytes of a file; 65,536 numbers with six characters each take half of it."""
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_EXPECTED = "expected 256 rows of 256 whole numbers, row a and column b holding the product of a and b, ascending"


def codes(signed: bool) -> np.ndarray:
    """Return the values of an operand in ascending order: -128 to 127, or 0 to 255."""
    return np.arange(SIDE, dtype=np.int64) - (SIDE // 2 if signed else 0)


@dataclass(frozen=True)
class ErrorFigures:
    """The error of a table over all pairs of operands: absolute, and in percent of 2^16 as EvoApproxLib gives it.

    `mre` divides by the exact product's size, and by 1 where that is 0.
    """

    mae: float
    wce: int
    mse: float
    mre: float
    probability: float

    @property
    def mae_percent(self) -> float:
        """The mean absolute error in percent of 2^16."""
        return 100.0 * self.mae / SPAN

    @property
    def wce_percent(self) -> float:
        """The worst-case error in percent of 2^16."""
        return 100.0 * self.wce / SPAN


@dataclass(frozen=True, eq=False)
class ProductTable:
    """A multiplier: `values[i, j]` is its product of the i-th and the j-th code, see `codes`.

    It is known by library (with its version), name and the digest of its table, since libraries rename: EvoApproxLib's
    mul8s_1KV8 is exact in one version and approximate in another.
    """

    values: np.ndarray
    signed: bool
    library: str
    name: str

    @cached_property
    def sha256(self) -> str:
        """The digest of the products, 16 bits each, little-endian, row by row."""
        kind = "<i2" if self.signed else "<u2"
        return hashlib.sha256(np.ascontiguousarray(self.values, dtype=kind).tobytes()).hexdigest()

    @cached_property
    def exact(self) -> np.ndarray:
        """The exact products."""
        return np.multiply.outer(codes(self.signed), codes(self.signed))

    @cached_property
    def deviation(self) -> np.ndarray:
        """What the multiplier adds to the exact product."""
        return self.values - self.exact

    @cached_property
    def figures(self) -> ErrorFigures:
        """The error over all pairs of operands."""
        size = np.abs(self.deviation)
        return ErrorFigures(
            mae=float(size.mean()),
            wce=int(size.max()),
            mse=float((size.astype(np.float64) ** 2).mean()),
            mre=float((size / np.maximum(np.abs(self.exact), 1)).mean()),
            probability=float((size > 0).mean()),
        )


def truncate(values: np.ndarray, bits: int) -> np.ndarray:
    """Return values with their lowest bits set to 0, which rounds down, negative ones too."""
    return (values >> bits) << bits


def truncated(first: int, second: int, library: str, name: str) -> ProductTable:
    """Return the signed multiplier that is exact on operands without their lowest `first` and `second` bits."""
    values = codes(signed=True)
    return ProductTable(np.multiply.outer(truncate(values, first), truncate(values, second)), True, library, name)


def read_products(path: Path, signed: bool, library: str, name: str) -> ProductTable:
    """Return the multiplier in a file, by its suffix: .npy, .csv, or .bin with 16 bits a product, little-endian.

    UserError for a file that is absent, of another suffix, shape or type, or with a product that 16 bits do not hold.
    """
    try:
        content = read_regular(path, FILE_LIMIT)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, {_EXPECTED}") from None
    readers = {".npy": _from_npy, ".csv": _from_csv, ".bin": _from_bytes}
    if path.suffix not in readers:
        raise UserError(f"{path}: the suffix is {path.suffix or 'absent'}, expected one of {', '.join(readers)}")
    try:
        values = readers[path.suffix](content, signed)
    except ValueError as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}, {_EXPECTED}") from None
    if values.shape != (SIDE, SIDE):
        raise UserError(f"{path}: found numbers of the shape {list(values.shape)}, {_EXPECTED}")
    if values.dtype.kind not in "iu":
        raise UserError(f"{path}: found numbers of the type {values.dtype}, {_EXPECTED}")
    low, high = (-(2**15), 2**15 - 1) if signed else (0, 2**16 - 1)
    if len(wrong := np.argwhere((values < low) | (values > high))):
        row, column = wrong[0].tolist()
        first, second = codes(signed)[[row, column]].tolist()
        raise UserError(
            f"{path}: row {row + 1}, column {column + 1}: found {values[row, column]} as the product of {first} and "
            f"{second}, expected a number from {low} to {high}"
        )
    return ProductTable(values.astype(np.int64), signed, library, name)


def _from_npy(content: bytes, signed: bool) -> np.ndarray:
    # Other formats that numpy reads are no single array.
    if not content.startswith(b"\x93NUMPY"):
        raise ValueError("not a file of numpy's format")
    found: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return found


def _from_csv(content: bytes, signed: bool) -> np.ndarray:
    rows = [line.split(",") for line in content.decode("utf-8").split("\n") if line.strip()]
    if wrong := [number for number, row in enumerate(rows, 1) if len(row) != SIDE]:
        raise ValueError(f"row {wrong[0]} has {len(rows[wrong[0] - 1])} numbers")
    for number, row in enumerate(rows, 1):
        for column, cell in enumerate(row, 1):
            if not _NUMBER.fullmatch(cell.strip()):
                raise ValueError(f"row {number}, column {column}: found {cell.strip()[:20]!r}")
    return np.array([[int(cell) for cell in row] for row in rows], dtype=np.int64).reshape(-1, SIDE)


def _from_bytes(content: bytes, signed: bool) -> np.ndarray:
    if len(content) != 2 * SIDE * SIDE:
        raise ValueError(f"found {len(content):,} bytes")
    return np.frombuffer(content, "<i2" if signed else "<u2").reshape(SIDE, SIDE)
