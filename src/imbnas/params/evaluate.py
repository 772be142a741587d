"""Section `evaluate`: the final networks on the test split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imbnas.params.base import Section, View
from imbnas.params.shared import Numerics, Positive, SpaceParams


class EvaluateParams(Section):
    """The evaluation."""

    shots: Literal["kang", "oltr", "thirds"] = "kang"
    """Rule of many-, medium- and few-shot classes by training count: more than 100, 20 to 100, fewer than 20 (`kang`);
    100 and more, 21 to 99, 20 and fewer (`oltr`); equal thirds of the classes (`thirds`)."""
    bins: Positive = 15
    """Confidence bins of the calibration error."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of the bootstrap intervals."""
    resamples: Positive = 2000
    """Bootstrap resamples of the test rows."""
    batch_size: Positive = 512
    """Test rows in one forward pass."""


class EvaluateView(View):
    """What the step `evaluate` sees."""

    seed: int
    space: SpaceParams
    runtime: Numerics
    evaluate: EvaluateParams
