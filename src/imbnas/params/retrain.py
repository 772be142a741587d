"""Section `retrain`: training the chosen subnet and its references on the long tail."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.approximate import ApproximateParams
from imbnas.params.barlow_options import PretrainParams
from imbnas.params.distill_options import DistillParams
from imbnas.params.head_options import HeadRecipeParams, SecondStageName
from imbnas.params.inheritance import Init
from imbnas.params.longtail import (
    ClassifierTraining,
    SamplerParams,
    check_smoothing,
    prior_corrected,
)
from imbnas.params.loss_options import LOSSES, LossName
from imbnas.params.recipe import CalibrationParams, OptimizerParams, RecipeParams
from imbnas.params.reference_options import ReferencesParams, or_truth
from imbnas.params.section import View
from imbnas.params.shared import Epochs, Fraction, NonNegative, TrainingNumerics
from imbnas.params.space_options import SpaceParams
from imbnas.params.synthesis_options import SynthesisParams

UNTRAINED = ": a mixture is taken as the search has trained it, and no other network is trained so"
"""Why `retrain` has nothing to train beside a mixture."""


class SecondStageParams(HeadRecipeParams):
    """A second stage on the trained network: its head anew, its backbone frozen."""

    name: SecondStageName = "none"
    """`none`: the network stays as trained. `linear` and `cosine` are new heads, trained with `loss` and `sampler`.
    `crt` is linear with plain cross-entropy and class-aware batches, `lws` scales the trained classes' logits so;
    `tau-norm` and `logit-adjustment` correct the trained head, `ncm` takes class means, without training (Kang et al.
    2020, Menon et al. 2021). `latent-diffusion` (Han et al. 2024), `gaussian` (Yang et al. 2021) and `mixup` go on
    training the trained head with `loss` on features of the rows and on generated ones, each once per epoch."""
    batchnorm: Literal["frozen", "batch", "update"] = "frozen"
    """`frozen`: the trained statistics, so that features are computed once; `batch`: each batch's own; `update`: each
    batch's own, and the trained statistics follow them."""
    views: Epochs = 1
    """For frozen: augmented passes over the rows whose features are kept and taken in turn; 0: the plain images."""
    loss: LossName = "ce"
    """Of linear and cosine, and of the heads that generate features."""
    sampler: SamplerParams = SamplerParams(name="class-aware")
    """Of linear and cosine."""
    synthesis: SynthesisParams = SynthesisParams()
    """Generated features, of latent-diffusion, gaussian and mixup."""


class FinetuneParams(RecipeParams):
    """The final training where its weights are inherited."""

    epochs: Epochs = 12
    optimizer: OptimizerParams = OptimizerParams(lr=0.02)
    """The optimiser; the weights are trained already, so its rate is lower than from scratch."""
    calibration: CalibrationParams = CalibrationParams()
    """BatchNorm statistics of the inherited network, measured before its training as the search does."""
    backbone: Literal["trained", "frozen"] = "trained"
    """`frozen`: in the space implant, implants and head alone are trained, and the backbone keeps every bit, its
    BatchNorm statistics too."""


class RetrainParams(ClassifierTraining, RecipeParams):
    """The final training."""

    epochs: Epochs = 120
    init: Init = "scratch"
    """`scratch`: new weights; `handed`: those that the search hands on, its adapted supernet's, for the chosen subnet
    and its references alike, trained by `finetune` in place of this section's own recipe."""
    finetune: FinetuneParams = FinetuneParams()
    """Of `init: handed`: epochs, batches, optimiser, schedule, augmentation, mixing and smoothing."""
    rows: Literal["train", "train+validation", "all"] = "train"
    """`train+validation`: the validation rows are trained on too, now that the search has used them; `all`: also the
    rows that the source took, where source and target are the same images and `imbalance.profile` is natural."""
    loss: LossName = "effective-number"
    branches: Literal["one", "bilateral"] = "one"
    """`bilateral`: BBN (Zhou et al. 2020): the last stage twice, one branch fed by `sampler`, the other by reversed
    sampling, mixed by a factor that falls from 1 to 0."""
    auxiliary: NonNegative = 0.0
    """In the space darts: weight of the loss of a second classifier at two thirds of the depth (DARTS: 0.4)."""
    drop_path: Fraction = 0.0
    """In the space darts: chance that an edge is dropped, reached at the end of the training (DARTS: 0.2)."""
    pretrain: PretrainParams = PretrainParams()
    """Self-supervised training before the final one (SSF-NAS)."""
    distill: DistillParams = DistillParams()
    """Knowledge distillation, in the first stage."""
    references: Annotated[ReferencesParams, Field(json_schema_extra=or_truth)] = ReferencesParams()
    """Networks to compare the chosen one with. `true` is one random subnet and the largest, `false` is none."""
    head: SecondStageParams = SecondStageParams(epochs=10, optimizer=OptimizerParams(weight_decay=0.0))
    """The second stage."""

    @model_validator(mode="after")
    def _first_stage(self) -> Self:
        inherited = self.init == "handed"
        check_smoothing("finetune." if inherited else "", self.loss, self.acting.label_smoothing)
        self._check_margins()
        if inherited:
            self._inherited()
        if self.branches == "bilateral":
            self._bilateral()
        return self

    @property
    def acting(self) -> RetrainParams:
        """The parameters with the recipe that acts in the place of the section's own: `finetune`'s, for `handed`."""
        if self.init == "scratch":
            return self
        return self.model_copy(update={name: getattr(self.finetune, name) for name in RecipeParams.model_fields})

    @property
    def acting_name(self) -> str:
        """The dotted name of the recipe that acts."""
        return "retrain" if self.init == "scratch" else "retrain.finetune"

    @property
    def distilled(self) -> bool:
        """Whether the networks follow a teacher."""
        return self.distill.teacher != "none"

    @property
    def frozen(self) -> bool:
        """Whether the backbone of the inherited networks stays as it is."""
        return self.init == "handed" and self.finetune.backbone == "frozen"

    def beside_mixture(self) -> str:
        """Return what would train a mixture again, or other networks beside it, and what is expected; "" for nothing.

        A second stage is none of it: the backbone stays as it is.
        """
        others = f"{self.references.random} random ones{' and the largest' * self.references.largest}"
        wrong = {
            f"init is {self.init}, expected handed": self.init != "handed",
            f"finetune.epochs is {self.finetune.epochs}, expected 0": self.finetune.epochs > 0,
            f"rows is {self.rows}, expected train": self.rows != "train",
            f"distill.teacher is {self.distill.teacher}, expected none": self.distilled,
            f"references is {others}, expected false": self.references.count > 0,
        }
        return next((text for text, found in wrong.items() if found), "")

    def _inherited(self) -> None:
        if self.branches != "one":
            raise ValueError(
                f"branches is {self.branches} with init handed, expected one: a supernet's path has no second branch"
            )
        if self.pretrain.epochs:
            raise ValueError(f"pretrain.epochs is {self.pretrain.epochs} with init handed, expected 0")

    def _bilateral(self) -> None:
        classifier = self.classifier.chosen(self.loss)
        if classifier != "linear":
            raise ValueError(f"classifier.name: {classifier} with branches bilateral, expected linear")
        if self.head.name != "none":
            raise ValueError(f"head.name is {self.head.name} with branches bilateral, expected none")
        if self.mixing.name != "none":
            raise ValueError(f"mixing.name is {self.mixing.name} with branches bilateral, expected none")
        if self.distilled:
            raise ValueError(f"distill.teacher is {self.distill.teacher} with branches bilateral, expected none")
        alone = {"auxiliary": self.auxiliary, "drop_path": self.drop_path, "pretrain.epochs": self.pretrain.epochs}
        for name, value in alone.items():
            if value:
                raise ValueError(f"{name} is {value} with branches bilateral, expected 0")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size} with branches bilateral, expected at least 2")

    @model_validator(mode="after")
    def _second_stage(self) -> Self:
        head, classifier = self.head, self.classifier.chosen(self.loss)
        if head.entry.own or head.entry.generates:
            check_smoothing("head.", head.loss, head.label_smoothing)
            if LOSSES[head.loss].cosine and head.name != "cosine":
                raise ValueError(f"head.name is {head.name} with head.loss {head.loss}, expected cosine")
        if head.entry.corrects and classifier != "linear":
            raise ValueError(f"head.name is {head.name} with classifier.name {classifier}, expected a linear one")
        if head.entry.generates and head.batchnorm != "frozen":
            raise ValueError(
                f"head.batchnorm is {head.batchnorm} with head.name {head.name}, expected frozen: features are "
                "generated like those of the network as it is"
            )
        if head.judged and self.rows != "train":
            raise ValueError(f"head.tau is auto with rows {self.rows}, expected rows train: it judges on the others")
        if head.mixing.name != "none" and head.batchnorm == "frozen":
            raise ValueError(
                f"head.mixing.name is {head.mixing.name} with head.batchnorm frozen, expected none, or batchnorm "
                "batch or update: features are computed once, before images could be mixed"
            )
        corrected = self._first_stage_corrected()
        if head.entry.prior and corrected:
            raise ValueError(
                f"head.name is {head.name} with {corrected}, expected a training with plain cross-entropy: both "
                "together correct the class frequencies twice"
            )
        return self

    def _first_stage_corrected(self) -> str:
        corrected = prior_corrected(self.loss, self.weighting, self.sampler)
        return corrected or ("branches bilateral" if self.branches == "bilateral" else "")

    def prior_corrected(self) -> str:
        """Return what in both stages takes the class frequencies out of the network's answer, "" for nothing."""
        head = self.head
        if head.entry.own:
            second = prior_corrected(head.loss, self.weighting, head.sampler)
            return f"head.{second}" if second else ""
        if head.entry.generates:
            second = prior_corrected(head.loss, self.weighting, SamplerParams())
            profile = "" if head.synthesis.profile == "published" else f"synthesis.profile {head.synthesis.profile}"
            found = second or profile
            return f"head.{found}" if found else self._first_stage_corrected()
        return self._first_stage_corrected() if head.name == "none" else f"head.name {head.name}"


class RetrainView(View):
    """The view of the step `retrain`."""

    seed: int
    space: SpaceParams
    runtime: TrainingNumerics
    retrain: RetrainParams
    approximate: ApproximateParams = ApproximateParams()
