"""Section `adapt`: carrying the supernet over to the long-tailed target."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from imbnas.params.base import Section, View
from imbnas.params.longtail import (
    ClassifierParams,
    LossesParams,
    LossName,
    NonNegative,
    SamplerParams,
    WeightingParams,
    check_loss,
    check_smoothing,
)
from imbnas.params.recipe import OptimizerParams, RecipeParams
from imbnas.params.shared import Positive, SpaceParams, TrainingNumerics
from imbnas.params.supernet import Sampling

Tau = Literal["auto"] | NonNegative
TRAINED_HEADS = ("linear", "cosine")
"""Heads that are trained with the section's own loss and sampler."""


class HeadParams(RecipeParams):
    """A new head on the frozen backbone."""

    name: Literal["linear", "cosine", "crt", "lws", "tau-norm", "ncm", "logit-adjustment"] = "linear"
    """`linear` and `cosine` are trained with `loss` and `sampler`. `crt` is linear with plain cross-entropy and
    class-aware batches; `lws`, `tau-norm` and `logit-adjustment` correct a linear head that was trained with plain
    cross-entropy on the rows as they are; `ncm` takes class means (Kang et al. 2020, Menon et al. 2021)."""
    tau: Tau = "auto"
    """Exponent of tau-norm; `auto` takes the best of 0, 0.1, ... 2 on the validation rows."""
    adjustment: NonNegative = 1.0
    """Factor of the log-prior that logit-adjustment subtracts."""
    paths: Positive = 16
    """Random paths whose features ncm averages, and tau-norm judges its exponent on."""


class AdaptParams(Section):
    """The adaptation."""

    strategy: Literal["none", "head", "finetune", "scratch"] = "head"
    """`none`: the source's head (same classes only); `head`: backbone frozen, new head (IMB-NAS);
    `finetune`: everything goes on training; `scratch`: a new supernet trained on the target."""
    loss: LossName = "effective-number"
    """`ce` is plain cross-entropy, the others know the long tail's class counts."""
    losses: LossesParams = LossesParams()
    """Options of the losses."""
    weighting: WeightingParams = WeightingParams()
    """Class weights."""
    sampler: SamplerParams = SamplerParams()
    """Which rows an epoch visits."""
    classifier: ClassifierParams = ClassifierParams()
    """The head of `finetune` and `scratch`, and the scale of every cosine head."""
    sampling: Sampling = "fair"
    """Paths of one optimiser step, as in `supernet.sampling`."""
    head: HeadParams = HeadParams(epochs=20, optimizer=OptimizerParams(weight_decay=0.0))
    """Training of the strategy `head`."""
    finetune: RecipeParams = RecipeParams(epochs=20, optimizer=OptimizerParams(lr=0.02))
    """Training of the strategy `finetune`."""
    scratch: RecipeParams = RecipeParams(epochs=100)
    """Training of the strategy `scratch`."""

    @model_validator(mode="after")
    def _losses(self) -> Self:
        check_loss(self.loss, self.weighting, self.losses)
        if self.strategy == "head":
            self._head()
        elif self.strategy != "none":
            recipe: RecipeParams = getattr(self, self.strategy)
            check_smoothing(f"{self.strategy}.", self.loss, recipe.label_smoothing)
            if self.loss == "ldam" and self.classifier.chosen(self.loss) == "linear":
                raise ValueError("classifier.name is linear with loss ldam, expected cosine or auto")
        return self

    def _head(self) -> None:
        if self.head.name in TRAINED_HEADS:
            check_smoothing("head.", self.loss, self.head.label_smoothing)
        if self.head.name == "linear" and self.loss == "ldam":
            raise ValueError("head.name is linear with loss ldam, expected cosine: its margins are on cosines")


class AdaptView(View):
    """What the step `adapt` sees."""

    seed: int
    space: SpaceParams
    runtime: TrainingNumerics
    adapt: AdaptParams
