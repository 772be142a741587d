"""Section `adapt`: carrying the supernet over to the long-tailed target."""

from __future__ import annotations

from typing import Literal

from imbnas.params.base import Section, View
from imbnas.params.recipe import LossName, OptimizerParams, RecipeParams, WeightingParams
from imbnas.params.shared import Numerics, SpaceParams
from imbnas.params.supernet import Sampling


class AdaptParams(Section):
    """The adaptation."""

    strategy: Literal["none", "head", "finetune", "scratch"] = "head"
    """`none`: the source's head (same classes only); `head`: backbone frozen, new linear head (IMB-NAS);
    `finetune`: everything goes on training; `scratch`: a new supernet trained on the target."""
    loss: LossName = "effective-number"
    """`ce` is plain cross-entropy, the others are re-weighted by the long tail's class counts."""
    weighting: WeightingParams = WeightingParams()
    """How the re-weighted losses weigh."""
    sampling: Sampling = "fair"
    """Paths of one optimiser step, as in `supernet.sampling`."""
    head: RecipeParams = RecipeParams(epochs=20, optimizer=OptimizerParams(weight_decay=0.0))
    """Training of the strategy `head`."""
    finetune: RecipeParams = RecipeParams(epochs=20, optimizer=OptimizerParams(lr=0.02))
    """Training of the strategy `finetune`."""
    scratch: RecipeParams = RecipeParams(epochs=100)
    """Training of the strategy `scratch`."""


class AdaptView(View):
    """What the step `adapt` sees."""

    seed: int
    space: SpaceParams
    runtime: Numerics
    adapt: AdaptParams
