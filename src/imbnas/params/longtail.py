"""How a training meets the long tail: its loss, class weights, sampler and classifier."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.base import Section
from imbnas.params.shared import Batch, Fraction

LossName = Literal[
    "ce",
    "inverse-frequency",
    "effective-number",
    "focal",
    "ldam",
    "balanced-softmax",
    "logit-adjustment",
    "vs",
    "cdt",
    "seesaw",
    "seql",
    "label-aware-smoothing",
]
ClassWeights = Literal["none", "inverse-frequency", "effective-number"]
SamplerName = Literal["instance", "class-balanced", "square-root", "progressive", "reversed", "class-aware"]
NonNegative = Annotated[float, Field(ge=0.0)]
Above = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

UNSMOOTHED = ("focal", "seql", "label-aware-smoothing")
"""Losses that do not define label smoothing."""
NAMED_WEIGHTS = ("ce", "inverse-frequency", "effective-number")
"""Losses whose name says how classes are weighed."""
PRIOR_CORRECTED = ("inverse-frequency", "effective-number", "balanced-softmax", "logit-adjustment", "vs")
"""Losses that already take the class frequencies out of the network's answer."""


class FocalParams(Section):
    """Softmax focal loss (Lin et al. 2017)."""

    gamma: NonNegative = 2.0
    """Exponent of (1 - p); the class weight stays outside of p."""


class LdamParams(Section):
    """Label-distribution-aware margins (Cao et al. 2019)."""

    max_margin: NonNegative = 0.5
    """Margin of the rarest class, on cosines."""


class AdjustmentParams(Section):
    """Logit-adjusted loss (Menon et al. 2021)."""

    tau: NonNegative = 1.0
    """Strength of the log-prior; 1 is balanced softmax."""


class VsParams(Section):
    """Vector scaling (Kini et al. 2021)."""

    gamma: NonNegative = 0.3
    """Exponent of the class temperatures; 0 gives the logit-adjusted loss."""
    tau: NonNegative = 1.0
    """Strength of the log-prior; 0 gives CDT."""


class CdtParams(Section):
    """Class-dependent temperatures (Ye et al. 2020)."""

    gamma: NonNegative = 0.2
    """Exponent of the class temperatures."""


class SeesawParams(Section):
    """Seesaw loss (Wang et al. 2021)."""

    p: NonNegative = 0.8
    """Exponent of the mitigation by class counts."""
    q: NonNegative = 2.0
    """Exponent of the compensation of wrong answers."""


class SeqlParams(Section):
    """Softmax equalisation (Tan et al. 2020)."""

    gamma: Share = 0.9
    """Chance that a rare class is left out of another row's denominator."""
    threshold: Share = 4.3e-4
    """Classes with a smaller share of the rows are rare."""


class SmoothingParams(Section):
    """Label-aware smoothing (Zhong et al. 2021)."""

    head: Fraction = 0.4
    """Smoothing of the largest class."""
    tail: Fraction = 0.1
    """Smoothing of the smallest class, at most `head`."""


class LossesParams(Section):
    """Options of the losses; each acts where `loss` names its loss."""

    focal: FocalParams = FocalParams()
    """Of focal."""
    ldam: LdamParams = LdamParams()
    """Of ldam."""
    logit_adjustment: AdjustmentParams = AdjustmentParams()
    """Of logit-adjustment."""
    vs: VsParams = VsParams()
    """Of vs."""
    cdt: CdtParams = CdtParams()
    """Of cdt."""
    seesaw: SeesawParams = SeesawParams()
    """Of seesaw."""
    seql: SeqlParams = SeqlParams()
    """Of seql."""
    label_aware_smoothing: SmoothingParams = SmoothingParams()
    """Of label-aware-smoothing."""


class WeightingParams(Section):
    """Class re-weighting of the loss by the long tail's class counts."""

    weights: ClassWeights = "none"
    """Class weights of losses whose name does not say them: of all but ce, inverse-frequency and effective-number."""
    beta: Fraction = 0.9999
    """Of effective-number weights (Cui et al. 2019): 0 weighs all alike, towards 1 it is inverse frequency."""
    reduction: Literal["weighted-mean", "batch-mean"] = "weighted-mean"
    """Divide the weighted losses by the weights' sum (torch, LDAM-DRW) or by the batch size (Cui's code)."""
    defer: Fraction = 0.8
    """Deferred re-weighting (Cao et al. 2019): the weights act from this share of training on; 0: always."""


class SamplerParams(Section):
    """Which training rows an epoch visits, and how often."""

    name: SamplerName = "instance"
    """`instance`: every row once. Drawn with replacement, with chances p_k of class k: `class-balanced` (equal),
    `square-root` (n_k^0.5), `progressive` (from the one to the other over the epochs), `reversed` (1 / n_k, Zhou et al.
    2020). `class-aware` (Kang et al. 2020) goes round the classes without replacement."""
    per_class: Batch = 4
    """Rows that a class gives in its turn; of class-aware."""
    length: Literal["natural", "longest"] = "natural"
    """Rows of a class-aware epoch: as many as there are, or the largest class times the number of classes."""
    defer: Fraction = 0.0
    """Deferred re-sampling: instance before this share of the training, the sampler from there on; 0: always."""

    @model_validator(mode="after")
    def _same_epochs(self) -> Self:
        if self.name == "class-aware" and self.length == "longest" and self.defer:
            raise ValueError(
                f"length is longest with defer {self.defer}, expected natural, or defer 0: deferral needs epochs of "
                "one length before and after"
            )
        return self


class ClassifierParams(Section):
    """The network's last layer while all of it is trained."""

    name: Literal["auto", "linear", "cosine"] = "auto"
    """`cosine`: cosines of features and class vectors, which ldam needs; `auto`: cosine for ldam, else linear."""
    scale: Above = 30.0
    """Factor of the cosines, in training and afterwards."""

    def chosen(self, loss: str) -> Literal["linear", "cosine"]:
        """Return the classifier that a training with `loss` has."""
        if self.name == "auto":
            return "cosine" if loss == "ldam" else "linear"
        return self.name


class LongTailParams(Section):
    """How a training treats classes of different sizes."""

    loss: LossName = "ce"
    """`ce` is plain cross-entropy, the others know the class counts of the training rows."""
    losses: LossesParams = LossesParams()
    """Options of the losses."""
    weighting: WeightingParams = WeightingParams()
    """Class weights."""
    sampler: SamplerParams = SamplerParams()
    """Which rows an epoch visits."""

    @model_validator(mode="after")
    def _loss(self) -> Self:
        """Refuse class weights or options that contradict the loss."""
        if self.weighting.weights != "none" and self.loss in NAMED_WEIGHTS:
            raise ValueError(
                f"weighting.weights is {self.weighting.weights} with loss {self.loss}, expected none: weighted "
                "cross-entropy is loss inverse-frequency or effective-number"
            )
        smoothing = self.losses.label_aware_smoothing
        if smoothing.tail > smoothing.head:
            raise ValueError(
                f"losses.label_aware_smoothing.tail is {smoothing.tail}, expected at most head ({smoothing.head})"
            )
        return self


class ClassifierTraining(LongTailParams):
    """The same for a training that chooses its classifier."""

    classifier: ClassifierParams = ClassifierParams()
    """The network's last layer."""

    def _check_margins(self) -> None:
        """Raise ValueError for margins on cosines where the classifier is linear."""
        if self.loss == "ldam" and self.classifier.chosen(self.loss) == "linear":
            raise ValueError("classifier.name is linear with loss ldam, expected cosine or auto")


def check_smoothing(name: str, loss: LossName, label_smoothing: float) -> None:
    """Raise ValueError where the recipe `name` (as "head.", "" for none) smooths labels and the loss defines none."""
    if label_smoothing and loss in UNSMOOTHED:
        raise ValueError(f"{name}label_smoothing is {label_smoothing} with loss {loss}, expected 0: it defines none")


def weighted(loss: LossName, weighting: WeightingParams) -> bool:
    """Say whether classes are weighed."""
    if loss in NAMED_WEIGHTS:
        return loss != "ce"
    return weighting.weights != "none"


def prior_corrected(loss: LossName, weighting: WeightingParams, sampler: SamplerParams) -> str:
    """Return what in a training already takes the class frequencies out of the network's answer, "" for nothing.

    Post-hoc logit adjustment (Menon et al. 2021) is for a network that still has them.
    """
    if loss in PRIOR_CORRECTED:
        return f"loss {loss}"
    if weighted(loss, weighting):
        return f"weighting.weights {weighting.weights}"
    if sampler.name != "instance":
        return f"sampler.name {sampler.name}"
    return ""
