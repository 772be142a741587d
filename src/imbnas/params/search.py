"""Section `search`: ranking subnets with the adapted supernet."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.differentiable import DartsParams
from imbnas.params.section import Section, View, short
from imbnas.params.shared import MOST_BLOCKS, Batch, Cost, Count, Numerics, Positive, Rounds, SpaceParams


class CalibrationParams(Section):
    """BatchNorm statistics of each subnet, measured on long-tailed training rows without augmentation."""

    rows: Positive = 512
    """How many rows, at most all of them."""
    sampling: Literal["instance", "balanced"] = "instance"
    """`instance`: drawn like the long tail; `balanced`: the same number of each class as far as there are any."""
    batch_size: Batch = 256
    """Rows in one forward pass; the statistics are the mean over the passes."""


class SearchParams(Section):
    """The search."""

    method: Literal["evolution", "random", "exhaustive", "tpe", "nsga2", "darts", "fixed"] = "evolution"
    """How architectures are proposed; `darts` descends on a continuous one, `fixed` takes `architecture` as given."""
    objective: Literal["balanced_accuracy", "accuracy", "worst_class"] = "balanced_accuracy"
    """What is maximised on the validation rows."""
    population: Annotated[int, Field(ge=2, le=10**5)] = 20
    """Architectures in one generation of `evolution` and `nsga2`."""
    generations: Rounds = 8
    """Generations of `evolution` and `nsga2`, the random first one included."""
    parents: Rounds = 8
    """Best architectures so far that `evolution` breeds from."""
    mutation: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Chance that mutation redraws a choice block."""
    candidates: Rounds = 160
    """Architectures that `random` and `tpe` evaluate."""
    max_macs: Cost | None = None
    """Most multiply-accumulate operations for one image; null: no limit."""
    max_params: Cost | None = None
    """Most parameters, the head included; null: no limit."""
    architecture: Annotated[list[Count], Field(max_length=MOST_BLOCKS)] | None = None
    """The choices of `fixed`, one per block; null: the only architecture of a space that has no choices."""
    calibration: CalibrationParams = CalibrationParams()
    """BatchNorm calibration."""
    batch_size: Batch = 512
    """Validation rows in one forward pass; does not change scores beyond rounding."""
    darts: DartsParams = DartsParams()
    """Of the method `darts`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method != "fixed" and self.architecture is not None:
            raise ValueError(
                f"method is {self.method} and architecture is {short(self.architecture)}, "
                "expected choices for fixed only"
            )
        if self.parents > self.population:
            raise ValueError(f"parents is {self.parents}, expected at most population ({self.population})")
        if self.method == "darts" and (self.max_macs is not None or self.max_params is not None):
            raise ValueError(
                f"max_macs is {short(self.max_macs)} and max_params is {short(self.max_params)} with method darts, "
                "expected null: gradient descent knows no limit"
            )
        return self


class SearchView(View):
    """The view of the step `search`."""

    seed: int
    space: SpaceParams
    runtime: Numerics
    search: SearchParams
