"""How a network is trained: the part that supernet, adaptation and retraining have in common."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.base import Section
from imbnas.params.shared import Count, Fraction, Positive


class OptimizerParams(Section):
    """Stochastic gradient descent with momentum."""

    lr: Annotated[float, Field(gt=0.0)] = 0.1
    """Peak learning rate."""
    momentum: Fraction = 0.9
    """Momentum."""
    nesterov: bool = True
    """Nesterov momentum; needs momentum above 0."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 5.0e-4
    """Weight decay on all weights; biases and BatchNorm's parameters have none."""
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
    milestones: list[Fraction] = []
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
    """Training-time augmentation, done on the device for a whole batch."""

    crop: Literal["auto", "pad", "resized", "none"] = "auto"
    """`pad`: zero padding, a random offset per image; `resized`: random area and aspect ratio; `auto`: by dataset."""
    pad: Literal["auto"] | Count = "auto"
    """Pixels of padding for `pad`; `auto` takes an eighth of the image's side."""
    flip: Literal["auto"] | bool = "auto"
    """Mirror half of the images; `auto` does it for all datasets but `digits` and `mnist`."""
    cutout: Count = 0
    """Side of a square that is blanked at a random place, in pixels; 0 for none."""


class RecipeParams(Section):
    """One training."""

    epochs: Count
    """Passes over the training rows."""
    batch_size: Positive = 64
    """Rows in one optimiser step; the last, smaller batch of an epoch is trained too unless it has one row."""
    optimizer: OptimizerParams = OptimizerParams()
    """The optimiser."""
    schedule: ScheduleParams = ScheduleParams()
    """The learning rate's course."""
    augment: AugmentParams = AugmentParams()
    """Augmentation."""
    label_smoothing: Fraction = 0.0
    """Share of the target probability spread over all classes."""
