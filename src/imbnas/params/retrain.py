"""Section `retrain`: training the chosen subnet, and two to compare it with, from scratch on the long tail."""

from __future__ import annotations

from typing import Literal

from imbnas.params.base import View
from imbnas.params.recipe import LossName, RecipeParams, WeightingParams
from imbnas.params.shared import Numerics, SpaceParams


class RetrainParams(RecipeParams):
    """The final training."""

    rows: Literal["train", "train+validation"] = "train"
    """Whether the validation rows are trained on too, now that the search has used them."""
    loss: LossName = "effective-number"
    """`ce` is plain cross-entropy, the others are re-weighted by the training rows' class counts."""
    weighting: WeightingParams = WeightingParams()
    """How the re-weighted losses weigh."""
    references: bool = True
    """Whether one random subnet and the largest within the constraint are trained too, with the same recipe."""


class RetrainView(View):
    """What the step `retrain` sees."""

    seed: int
    space: SpaceParams
    runtime: Numerics
    retrain: RetrainParams
