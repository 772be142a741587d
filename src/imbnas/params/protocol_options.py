"""The end of a differentiable search whose architecture has settled, and the pruning of a one-level search."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from imbnas.params.section import Section
from imbnas.params.shared import Count, Fraction, NonNegative, Rounds


class StabilityParams(Section):
    """The Jensen-Shannon divergence between an epoch's weights of operations and earlier ones (arXiv 2604.14849)."""

    divergence: NonNegative = 0.0
    """In nats, the mean over edges; the search stops when it stays below. 0: not measured."""
    back: Rounds = 1
    """Epochs between the weights that are compared."""
    patience: Rounds = 5
    """Epochs in a row in which it must be below."""


class PruningParams(Section):
    """Gradual pruning after each epoch, under a penalty on the number of operations (GOLD-NAS, arXiv 2007.03331)."""

    per_epoch: Count = 0
    """Operations that an epoch prunes at most, besides those at or below `least` (published: 4); 0: none ever."""
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """The largest share of its node's weights at which an operation is pruned."""
    least: Fraction = 0.01
    """The share at or below which it is pruned whatever `per_epoch` is."""
    penalty: NonNegative = 1.0e-5
    """The first step of the penalty's weight, which begins at 0 and grows while too few operations go."""
    growth: Annotated[float, Field(ge=1.0)] = 2.0
    """By this factor the step grows after an epoch that prunes fewer than `per_epoch`; after another one the weight is
    divided by it."""
    keep: Rounds = 8
    """Operations of a kind of cell with which pruning and penalty end."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.threshold:
            raise ValueError(f"least is {self.least:g}, expected at most the threshold of {self.threshold:g}")
        return self
