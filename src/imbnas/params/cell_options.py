"""Options of the spaces of cells: those of DARTS, and of NAS-Bench-201, repeated or implanted."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from imbnas.params.section import Section
from imbnas.params.shared import Even


class CellChoices(Section):
    """Options of the `nasbench201` space, beyond the benchmark's own (ZO-DARTS++, arXiv 2503.06092)."""

    per_stage: bool = False
    """Whether each stage has a cell of its own."""
    kernels: list[Literal[3, 5, 7]] = [3]
    """Of per_stage: kernel sizes of the convolution, ascending, 3 among them."""
    exits: bool = False
    """Of per_stage: whether the number of cells of each stage is searched too; `stages.repeats` has the most."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kernels != sorted(set(self.kernels)) or 3 not in self.kernels:
            raise ValueError(f"kernels are {self.kernels}, expected 3, and larger ones behind it, none twice")
        if not self.per_stage and (self.kernels != [3] or self.exits):
            raise ValueError(
                f"kernels are {self.kernels} and exits is {self.exits} with per_stage false, expected [3] and false, "
                "or per_stage true"
            )
        return self


class ImplantChoices(Section):
    """Options of the `implant` space."""

    kind: Literal["cells", "adapters"] = "cells"
    """What is beside the last shortcut of each stage: `cells` of NAS-Bench-201, six searched edges each (arXiv
    2405.03420), or `adapters`, a bottleneck convolution or nothing, which the cells are compared with."""
    budget: Annotated[int, Field(gt=0, lt=2**31)] = 10_000
    """Of `adapters`: parameters of those of all stages together, from which their widths follow."""


DartsOperation = Literal[
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
]


class DartsChoices(Section):
    """Options of the `darts` space."""

    channels: Even = 16
    """Channels of the search network's first cells; the stem has three times as many."""
    layers: Annotated[int, Field(ge=3, le=1000)] = 8
    """Cells of the search network; those at a third and two thirds halve the resolution."""
    derived_channels: Even = 36
    """Channels of a derived network's first cells."""
    derived_layers: Annotated[int, Field(ge=3, le=1000)] = 20
    """Cells of a derived network."""
    operations: list[DartsOperation] = list(get_args(DartsOperation))
    """The operations on every edge, without repetition; their order is that of the indices."""
    partial: Literal[1, 2, 4, 8] = 1
    """The search network's operations see one channel in so many, the others bypass them (PC-DARTS: 4)."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(set(self.operations)) != len(self.operations) or not set(self.operations) - {"none"}:
            raise ValueError(f"operations are {self.operations}, expected none twice and at least one besides none")
        if self.channels % (2 * self.partial) and self.partial > 1:
            raise ValueError(f"channels is {self.channels}, expected a multiple of {2 * self.partial}: twice partial")
        return self
