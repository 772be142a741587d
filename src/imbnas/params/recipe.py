"""The training recipe that supernet, adaptation and retraining share."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.section import Section
from imbnas.params.shared import Batch, Epochs, Fraction, Pixels, Positive

Tau = Literal["auto"] | Annotated[float, Field(ge=0.0)]
PolicyName = Literal["none", "autoaugment-cifar10", "autoaugment-imagenet", "autoaugment-svhn", "randaugment"]


class OptimizerParams(Section):
    """Stochastic gradient descent with momentum."""

    lr: Annotated[float, Field(gt=0.0)] = 0.1
    """Peak learning rate."""
    momentum: Fraction = 0.9
    """Momentum."""
    nesterov: bool = True
    """Nesterov momentum; needs momentum above 0."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 5.0e-4
    """Weight decay, of convolution and linear weights."""
    decay_norms: bool = False
    """Whether biases and BatchNorm's parameters decay too, as in most published long-tailed recipes."""
    clip: Annotated[float, Field(ge=0.0)] = 5.0
    """Largest norm of the gradient over all parameters; 0 does not clip."""

    @model_validator(mode="after")
    def _nesterov(self) -> Self:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov is true with momentum 0, expected a momentum above 0")
        return self


class ScheduleParams(Section):
    """The learning rate over training, per optimiser step."""

    name: Literal["cosine", "constant", "step"] = "cosine"
    """`cosine` falls to zero, `constant` stays, `step` multiplies by `gamma` at each milestone."""
    warmup: Fraction = 0.05
    """Share of the training in which the rate rises linearly from zero."""
    milestones: Annotated[list[Fraction], Field(max_length=1000)] = []
    """Where `step` acts, as fractions of the training, ascending: 0.8 is epoch 160 of 200."""
    gamma: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """The factor of `step`."""

    @model_validator(mode="after")
    def _milestones(self) -> Self:
        if (self.name == "step") != bool(self.milestones):
            raise ValueError(
                f"name is {self.name} with milestones {self.milestones}, expected both for step or neither"
            )
        if sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"milestones are {self.milestones}, expected ascending fractions")
        return self


class AugmentParams(Section):
    """Training-time augmentation: crop, mirror, policy, cutout, in this order."""

    crop: Literal["auto", "pad", "resized", "none"] = "auto"
    """`pad`: zero padding, a random offset per image; `resized`: random area and aspect ratio; `auto`: by dataset."""
    pad: Literal["auto"] | Pixels = "auto"
    """Pixels of padding for `pad`; `auto` takes an eighth of the image's side."""
    flip: Literal["auto"] | bool = "auto"
    """Mirror half of the images; `auto` does it for all datasets but `digits` and `mnist`."""
    policy: PolicyName = "none"
    """AutoAugment (Cubuk et al. 2019) with the table learned on a dataset, or RandAugment (Cubuk et al. 2020)."""
    operations: Annotated[int, Field(gt=0, le=100)] = 2
    """Of `randaugment`: operations on each image."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Of `randaugment`: strength of the operations, from 0 to 30."""
    cutout: Pixels = 0
    """Side of a square that is blanked at a random place, in pixels; 0 for none."""

    @model_validator(mode="after")
    def _padding(self) -> Self:
        if self.crop in ("resized", "none") and self.pad != "auto":
            raise ValueError(f"pad is {self.pad} with crop {self.crop}, expected auto: only the crop pad uses it")
        return self


class MixingParams(Section):
    """Training on convex combinations of two images of a batch, with one share for the whole batch."""

    name: Literal["none", "mixup", "remix"] = "none"
    """`mixup` (Zhang et al. 2018) mixes images and labels alike; `remix` (Chou et al. 2020) favours rarer labels."""
    alpha: Annotated[float, Field(gt=0.0)] = 1.0
    """The share is drawn from Beta(alpha, alpha): 1 is uniform, towards 0 images are mixed less."""
    kappa: Annotated[float, Field(ge=1.0)] = 3.0
    """Of `remix`: ratio of class counts from which the rarer class may take the whole label."""
    tau: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Of `remix`: it does where the frequent class's share is below this."""


class RecipeParams(Section):
    """One training."""

    epochs: Epochs
    """Passes over the training rows."""
    batch_size: Batch = 64
    """Rows in one optimiser step; the last, smaller batch of an epoch is trained too unless it has one row."""
    optimizer: OptimizerParams = OptimizerParams()
    """The optimiser."""
    schedule: ScheduleParams = ScheduleParams()
    """The learning rate's course."""
    augment: AugmentParams = AugmentParams()
    """Augmentation."""
    mixing: MixingParams = MixingParams()
    """Mixing of images, after the augmentation."""
    label_smoothing: Fraction = 0.0
    """Share of the target probability spread over all classes."""


class CalibrationParams(Section):
    """BatchNorm statistics of each subnet, measured on long-tailed training rows without augmentation."""

    rows: Positive = 512
    """How many rows, at most all of them."""
    sampling: Literal["instance", "balanced"] = "instance"
    """`instance`: drawn like the long tail; `balanced`: the same number of each class as far as there are any."""
    batch_size: Batch = 256
    """Rows in one forward pass; the statistics are the mean over the passes."""
