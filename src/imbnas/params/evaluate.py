"""Section `evaluate`: the final networks on the test split."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.approximate import ApproximateParams
from imbnas.params.section import Section, View
from imbnas.params.shared import Batch, Count, Numerics
from imbnas.params.space_options import SpaceParams


class ThresholdParams(Section):
    """Training rows that separate the shot groups of the rule `custom`."""

    many: Count = 100
    """Classes with more training rows than this are many-shot."""
    few: Count = 20
    """Classes with fewer training rows than this are few-shot."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.many < self.few:
            raise ValueError(f"many is {self.many} and few is {self.few}, expected many at least as large as few")
        return self


class EvaluateParams(Section):
    """The evaluation."""

    shots: Literal["kang", "oltr", "thirds", "custom"] = "kang"
    """Rule of many-, medium- and few-shot classes by training count: more than 100, 20 to 100, fewer than 20 (`kang`);
    100 and more, 21 to 99, 20 and fewer (`oltr`); equal thirds of the classes (`thirds`); `thresholds` (`custom`)."""
    thresholds: ThresholdParams = ThresholdParams()
    """Used when `shots` is custom."""
    logit_adjustment: Annotated[float, Field(ge=0.0)] = 0.0
    """Post-hoc logit adjustment (Menon et al. 2021): this times the log of the class's share of the training rows is
    taken off each logit; 0 leaves them. For networks whose loss knows nothing of class sizes."""
    bins: Annotated[int, Field(gt=0, le=1000)] = 15
    """Confidence bins of the calibration error."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of the bootstrap intervals."""
    resamples: Annotated[int, Field(gt=0, le=10**5)] = 2000
    """Bootstrap resamples of the test rows."""
    batch_size: Batch = 512
    """Test rows in one forward pass."""
    int8: bool = False
    """Measure the chosen network in 8 bits too, with the file that `imbnas export --int8` writes: its scores, and what
    it loses in each shot group. Needs the extra `deploy` (docs/deploy.md)."""


class EvaluateView(View):
    """The view of the step `evaluate`."""

    seed: int
    space: SpaceParams
    runtime: Numerics
    evaluate: EvaluateParams
    approximate: ApproximateParams = ApproximateParams()
