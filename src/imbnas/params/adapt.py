"""Section `adapt`: carrying the supernet over to the long-tailed target."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.head_options import HeadName, HeadRecipeParams
from imbnas.params.longtail import ClassifierParams, ClassifierTraining, WeightingParams, check_smoothing
from imbnas.params.loss_options import LOSSES, LossName
from imbnas.params.recipe import OptimizerParams, RecipeParams
from imbnas.params.section import Section, View
from imbnas.params.shared import Epochs, PassesTaken, Paths, Rounds, Sampling, TrainingNumerics, check_teaching
from imbnas.params.space_options import SpaceParams


class HeadParams(HeadRecipeParams):
    """A new head on the frozen backbone."""

    name: HeadName = "linear"
    """`linear` and `cosine` are trained with `loss` and `sampler`. `crt` is linear with plain cross-entropy and
    class-aware batches; `lws`, `tau-norm` and `logit-adjustment` correct a linear head that was trained with plain
    cross-entropy on the rows as they are; `ncm` takes class means (Kang et al. 2020, Menon et al. 2021)."""
    paths: Rounds = 16
    """Random paths whose features ncm averages, and tau-norm judges its exponent on."""


class FeatureCacheParams(Section):
    """Features of some paths, computed once: the head's training then costs no forward pass."""

    paths: Paths = 0
    """Paths that are drawn once, as `adapt.sampling` draws those of the first steps; 0: none, every step draws its own
    and passes through the backbone."""
    views: Epochs = 1
    """Augmented passes over the rows for each path, taken in turn; 0: the plain images."""
    limit: Annotated[float, Field(gt=0.0)] = 8.0
    """Most GiB of disk that the features may take; more is refused before anything is computed."""


class AdaptParams(ClassifierTraining):
    """The adaptation."""

    strategy: Literal["none", "head", "finetune", "scratch", "implant"] = "head"
    """`none`: the source's head (same classes only); `head`: backbone frozen, new head (IMB-NAS);
    `finetune`: everything goes on training; `scratch`: a new supernet trained on the target; `implant`: in the space
    implant, implants and head are trained, the backbone keeps every bit (arXiv 2405.03420)."""
    loss: LossName = "effective-number"
    weighting: WeightingParams = WeightingParams(defer=0.5)
    classifier: ClassifierParams = ClassifierParams()
    """The head of `finetune` and `scratch`, and the scale of every cosine head."""
    sampling: Sampling = "fair"
    """Paths of one optimiser step, as in `supernet.sampling`."""
    passes: PassesTaken = "separate"
    """Of the strategy `head` without a feature cache, as in `supernet.passes`."""
    inplace_distillation: bool = False
    """Of the strategies that train the backbone or implants, as in `supernet.inplace_distillation`."""
    head: HeadParams = HeadParams(epochs=20, optimizer=OptimizerParams(weight_decay=0.0))
    """Training of the strategy `head`."""
    feature_cache: FeatureCacheParams = FeatureCacheParams()
    """Features on which the strategy `head` trains, in place of images."""
    finetune: RecipeParams = RecipeParams(epochs=20, optimizer=OptimizerParams(lr=0.02))
    """Training of the strategy `finetune`."""
    scratch: RecipeParams = RecipeParams(epochs=100)
    """Training of the strategy `scratch`."""
    implant: RecipeParams = RecipeParams(epochs=40)
    """Training of the strategy `implant`."""

    @model_validator(mode="after")
    def _recipe(self) -> Self:
        if self.strategy == "head":
            self._head()
        elif self.strategy != "none":
            recipe: RecipeParams = getattr(self, self.strategy)
            check_smoothing(f"{self.strategy}.", self.loss, recipe.label_smoothing)
            self._check_margins()
        if self.inplace_distillation and self.strategy in ("none", "head"):
            raise ValueError(
                f"inplace_distillation is true with strategy {self.strategy}, expected false, or strategy finetune, "
                "scratch or implant"
            )
        check_teaching(self.inplace_distillation, self.sampling)
        return self

    @property
    def described(self) -> dict[str, Any]:
        """The section as the metadata of a supernet tell it: what was added later is there where it acts."""
        idle = {
            "implant": self.strategy != "implant",
            "inplace_distillation": not self.inplace_distillation,
            "passes": self.passes == "separate",
        }
        return self.model_dump(mode="json", exclude={name for name, absent in idle.items() if absent})

    def _head(self) -> None:
        if self.classifier.name == "etf":
            raise ValueError(
                "classifier.name is etf with strategy head, expected strategy finetune or scratch: its vectors are "
                "fixed, and nothing would train behind a frozen backbone"
            )
        if self.head.entry.own:
            check_smoothing("head.", self.loss, self.head.label_smoothing)
        if self.head.entry.own and self.head.name != "cosine" and LOSSES[self.loss].cosine:
            raise ValueError(
                f"head.name is {self.head.name} with loss {self.loss}, expected cosine: its margins are on cosines"
            )
        if self.feature_cache.paths:
            self._feature_cache()

    def _feature_cache(self) -> None:
        paths = self.feature_cache.paths
        if not self.head.entry.trained:
            raise ValueError(
                f"feature_cache.paths is {paths} with head.name {self.head.name}, expected 0: it is not trained"
            )
        if self.head.mixing.name != "none":
            raise ValueError(
                f"head.mixing.name is {self.head.mixing.name} with feature_cache.paths {paths}, expected none, or "
                "paths 0: features are computed once, before images could be mixed"
            )
        if self.sampling == "mixture" and paths > 1:
            raise ValueError(
                f"feature_cache.paths is {paths} with sampling mixture, expected 0 or 1: a mixture has no paths, and "
                "more of its augmented passes are feature_cache.views"
            )


class AdaptView(View):
    """The view of the step `adapt`."""

    seed: int
    space: SpaceParams
    runtime: TrainingNumerics
    adapt: AdaptParams
