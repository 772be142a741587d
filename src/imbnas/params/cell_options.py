"""Options of the spaces of NAS-Bench-201's cells, repeated or implanted."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.section import Section


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
