"""The penalty of a differentiable search on what its architecture costs."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from imbnas.params.section import Section
from imbnas.params.shared import Above, CostLimit, Epochs


class CostParams(Section):
    """A penalty on the expected cost in the architecture's loss (ZO-DARTS++, arXiv 2503.06092)."""

    name: Literal["none", "macs", "params"] = "none"
    """What is counted: multiply-accumulate operations for one image, or parameters; of the derived network."""
    lower: CostLimit | None = None
    """Least that costs nothing, as a number or as a share of what the largest architecture has; null: no bound."""
    upper: CostLimit | None = None
    """Most that costs nothing, likewise."""
    scale: Above = 15.0
    """Weight of the distance from the bounds over what the largest architecture has; sparsemax's temperature divides
    it."""
    start: Epochs = 0
    """Epochs before the penalty begins."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        given = self.lower is not None or self.upper is not None
        if (self.name != "none") != given:
            expected = "at least one bound" if self.name != "none" else "null, or macs or params to bound"
            raise ValueError(
                f"name is {self.name} with lower {_word(self.lower)} and upper {_word(self.upper)}, expected {expected}"
            )
        if self.lower is None or self.upper is None or isinstance(self.lower, str) != isinstance(self.upper, str):
            return self
        if _value(self.lower) > _value(self.upper):
            raise ValueError(f"lower is {self.lower} and upper is {self.upper}, expected at most upper")
        return self


def _value(bound: int | str) -> float:
    return float(bound.removesuffix("x")) if isinstance(bound, str) else bound


def _word(bound: int | str | None) -> str:
    return "null" if bound is None else str(bound)
