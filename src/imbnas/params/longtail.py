"""The long-tailed part of a training: its loss, class weights, sampler and classifier."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from imbnas.params.loss_options import LOSSES, ClassWeights, LossesParams, LossName
from imbnas.params.section import Section
from imbnas.params.shared import Above, Batch, Fraction

SamplerName = Literal["instance", "class-balanced", "square-root", "progressive", "reversed", "class-aware"]


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
    """The training rows that an epoch visits, and how often."""

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


ANGULAR = ("cosine", "etf")
"""Classifiers whose scores are cosines times a factor."""


class ClassifierParams(Section):
    """The network's last layer while all of it is trained."""

    name: Literal["auto", "linear", "cosine", "etf"] = "auto"
    """`cosine`: cosines of features and class vectors, on which ldam's margins are; `etf` (LT-DARTS, Pan et al. 2025):
    cosines with fixed vectors, a simplex of equal angles; `auto`: cosine for ldam, else linear."""
    scale: Above = 30.0
    """Factor of the cosines, in training and afterwards."""

    def chosen(self, loss: LossName) -> Literal["linear", "cosine", "etf"]:
        """Return the classifier that a training with `loss` has."""
        if self.name == "auto":
            return "cosine" if LOSSES[loss].cosine else "linear"
        return self.name


class LongTailParams(Section):
    """The treatment of classes of different sizes in a training."""

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
        """Refuse class weights that contradict the loss."""
        if self.weighting.weights != "none" and LOSSES[self.loss].weights is not None:
            raise ValueError(
                f"weighting.weights is {self.weighting.weights} with loss {self.loss}, expected none: weighted "
                "cross-entropy is loss inverse-frequency or effective-number"
            )
        return self


class ClassifierTraining(LongTailParams):
    """The same for a training that chooses its classifier."""

    classifier: ClassifierParams = ClassifierParams()
    """The network's last layer."""

    def _check_margins(self) -> None:
        """Raise ValueError for margins on cosines where the classifier is linear."""
        if LOSSES[self.loss].cosine and self.classifier.chosen(self.loss) == "linear":
            raise ValueError(f"classifier.name is linear with loss {self.loss}, expected cosine, etf or auto")


def check_smoothing(name: str, loss: LossName, label_smoothing: float) -> None:
    """Raise ValueError where the recipe `name` (as "head.", "" for none) smooths labels and the loss defines none."""
    if label_smoothing and not LOSSES[loss].smoothable:
        raise ValueError(f"{name}label_smoothing is {label_smoothing} with loss {loss}, expected 0: it defines none")


def weighted(loss: LossName, weighting: WeightingParams) -> bool:
    """Return whether classes are weighted."""
    return (LOSSES[loss].weights or weighting.weights) != "none"


def prior_corrected(loss: LossName, weighting: WeightingParams, sampler: SamplerParams) -> str:
    """Return what in a training already takes the class frequencies out of the network's answer, "" for nothing.

    Post-hoc logit adjustment (Menon et al. 2021) is for a network that still has them.
    """
    if LOSSES[loss].prior_corrected:
        return f"loss {loss}"
    if weighted(loss, weighting):
        return f"weighting.weights {weighting.weights}"
    if sampler.name != "instance":
        return f"sampler.name {sampler.name}"
    return ""
