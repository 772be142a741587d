"""Section `approximate`: convolutions in 8 bits under an approximate multiplier, in search and final training."""

from __future__ import annotations

import posixpath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from imbnas.params.dataset import file_name
from imbnas.params.section import Section, short
from imbnas.params.space_options import SpaceParams

TABLES = "tables"
"""The directory of the tables that a user gives: DVC knows it as an input."""
MultiplierName = Literal["exact", "truncated-1", "truncated-2", "truncated-3", "first-truncated-6", "table"]
OWN = "imbnas"
"""The library of the multipliers that need no table."""
OPERATIONS = {
    "nasbench201": ("nor_conv_1x1", "nor_conv_3x3"),
    "implant": ("nor_conv_1x1", "nor_conv_3x3", "bottleneck"),
    "darts": ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
}
"""Operations with convolutions, of the spaces whose operations have names to choose from."""


def below_tables(value: str) -> str:
    """Refuse a file elsewhere, whose changes DVC would not see."""
    if posixpath.normpath(value) != value or not value.startswith(f"{TABLES}/"):
        raise ValueError(f"found {value}, expected a file below {TABLES}/, as in {TABLES}/cifar10-lt-16.parquet")
    return value


TablePath = Annotated[str, AfterValidator(file_name), AfterValidator(below_tables)]
Energy = Annotated[float, Field(ge=0.0, le=1e6)]
"""A microjoule per operation is far above any arithmetic, and sums of such stay numbers."""
Label = Annotated[str, Field(min_length=1, max_length=200)]


class OperationEnergy(Section):
    """Energy in picojoules."""

    multiply: Energy
    """Of one multiplication."""
    add: Energy
    """Of one addition to the sum."""


class EnergyParams(Section):
    """Energy of arithmetic, in picojoules: the defaults are those of Horowitz 2014 for 45 nm at 0.9 V."""

    float32: OperationEnergy = OperationEnergy(multiply=3.7, add=0.9)
    """Of what stays in float32."""
    exact8: OperationEnergy = OperationEnergy(multiply=0.2, add=0.1)
    """Of 8-bit integers with 32-bit sums, under the exact multiplier."""


class ApproximateParams(Section):
    """Approximate multipliers (ApproxDARTS, arXiv 2404.08002)."""

    multiplier: MultiplierName | None = None
    """Of two 8-bit numbers: `exact`; `truncated-k` without the k lowest bits of both; `first-truncated-6` without six
    bits of the input's; or `table`, read from `file`. null: convolutions stay in float32."""
    operations: Annotated[list[str], Field(min_length=1, max_length=100)] | None = None
    """Names of the operations whose convolutions are approximate, as in `sep_conv_3x3`; null: of all operations."""
    skeleton: bool = False
    """Whether the convolutions that all networks of the space share are approximate too."""
    file: TablePath | None = None
    """Of `table`: 256 x 256 products below `tables/`, .npy, .csv or .bin, ascending by both operands."""
    signed: bool = True
    """Of `table`: operands from -128 to 127, else from 0 to 255."""
    library: Label | None = None
    """Of `table`: the library with its version, as names of multipliers change between versions."""
    name: Label | None = None
    """Of `table`: the multiplier's name in the library."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Of `table`: the digest of its products, 16 bits each, little-endian; a file of another one is refused."""
    relative_energy: Energy | None = None
    """Of `table`: energy of a product as a share of the exact 8-bit multiplier's; null: not known."""
    energy: EnergyParams = EnergyParams()
    """Energy of the arithmetic."""

    @property
    def acts(self) -> bool:
        """Whether any convolution is in 8 bits."""
        return self.multiplier is not None

    @model_validator(mode="after")
    def _table(self) -> Self:
        given = {name: getattr(self, name) for name in ("file", "library", "name", "sha256", "relative_energy")}
        if self.multiplier == "table":
            for name in ("file", "library", "name"):
                if given[name] is None:
                    raise ValueError(f"{name} is null with multiplier table, expected it: a table is known by it")
        if self.library == OWN:
            raise ValueError(f"library is {OWN}, expected another name: its multipliers need no table")
        for name, value in given.items():
            if self.multiplier != "table" and value is not None:
                raise ValueError(
                    f"{name} is {short(value)} with multiplier {short(self.multiplier)}, expected null, or table"
                )
        if self.multiplier is None and (self.operations is not None or self.skeleton):
            name = "skeleton" if self.operations is None else "operations"
            raise ValueError(f"{name} is {short(getattr(self, name))} with multiplier null, expected a multiplier")
        return self


def check_energy(limit: object, approximate: ApproximateParams) -> None:
    """Raise ValueError where energy is limited and not known, or not the same for operations of all candidates."""
    if limit is None or not approximate.acts:
        return
    if approximate.multiplier == "table" and approximate.relative_energy is None:
        raise ValueError(
            f"search.max_energy is {short(limit)} and approximate.relative_energy is null, expected the energy of a "
            "product"
        )
    if approximate.operations is not None:
        raise ValueError(
            f"search.max_energy is {short(limit)} with approximate.operations {short(approximate.operations)}, "
            "expected null: where some operations alone are approximate, energy does not follow from their number"
        )


def check_operations(space: SpaceParams, approximate: ApproximateParams) -> None:
    """Raise ValueError where operations are named that the space does not have, or where forms share weights."""
    if approximate.acts and space.name == "ofa-mobilenetv3":
        raise ValueError(
            f"approximate.multiplier is {approximate.multiplier} in the space ofa-mobilenetv3, expected null: its "
            "supernet has no convolution of each form that could be approximate"
        )
    if approximate.operations is None:
        return
    known = OPERATIONS.get(space.name)
    if known is None:
        raise ValueError(
            f"approximate.operations is {short(approximate.operations)} in the space {space.name}, expected null, or "
            f"the space {' or '.join(OPERATIONS)}"
        )
    if space.name == "nasbench201":
        known = (*known, *(f"nor_conv_{kernel}x{kernel}" for kernel in space.nasbench201.kernels if kernel > 3))
    if space.name == "darts":
        known = tuple(name for name in known if name in space.darts.operations)
    if space.name == "implant":
        known = known[:2] if space.implant.kind == "cells" else known[2:]
    wrong = [name for name in approximate.operations if name not in known]
    if wrong or len(set(approximate.operations)) != len(approximate.operations):
        raise ValueError(
            f"approximate.operations is {short(approximate.operations)}, expected some of {', '.join(known)}, none "
            "twice"
        )
