"""Parts of the section `search.darts`: the architecture parameters' training, Barlow Twins, guards against collapse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from imbnas.params.barlow_options import ProjectorParams
from imbnas.params.loss_options import LOSSES
from imbnas.params.section import Section
from imbnas.params.shared import Above, Count, Epochs, Fraction, NonNegative, Rounds

if TYPE_CHECKING:
    OuterLoss = str
else:
    OuterLoss = Literal["same", *LOSSES]


class ArchitectureParams(Section):
    """The training of the architecture parameters: Adam, with a rate that follows the epochs."""

    lr: Above = 3.0e-4
    """Learning rate."""
    beta1: Fraction = 0.5
    """Decay of the mean gradient."""
    beta2: Fraction = 0.999
    """Decay of the mean squared gradient."""
    weight_decay: NonNegative = 1.0e-3
    """Weight decay, which enters the gradient and follows the rate's schedule."""
    schedule: Literal["constant", "cumulative", "cosine", "freeze", "increasing"] = "constant"
    """`constant`: DARTS; with t the share of the search, `cumulative`: 1 - t^2 (HLRS), `cosine`: half a cosine,
    `freeze`: until 1 - t^2 falls below a half, `increasing`: t^2."""
    warmup: Epochs = 0
    """Epochs in which only the weights learn (PC-DARTS: 15)."""
    sampler: Literal["same", "instance", "class-balanced"] = "same"
    """Rows of the architecture's step: `same` as the weights', both branches included, or one draw of another kind."""
    loss: OuterLoss = "same"
    """Loss of the architecture's step: `same` as the weights', or another one, with the options in `losses` and
    `weighting`."""


class BarlowParams(ProjectorParams):
    """Barlow Twins in both levels of the search."""

    labels: NonNegative = 0.0
    """Weight of a loss on labels beside it; 0: labels are not looked at, nor do the split and the score use them."""


class CollapseParams(Section):
    """Measures against a collapse to skip connections."""

    skip: Literal["none", "linear", "cosine"] = "none"
    """DARTS- (Chu et al. 2021): an auxiliary skip connection on every edge whose weight falls from 1 to 0."""
    perturbation: Literal["none", "random", "adversarial"] = "none"
    """SmoothDARTS (Chen and Hsieh 2020): operations' weights are perturbed while the network's weights learn."""
    first_radius: NonNegative = 0.03
    """Of the perturbation, in the first epoch."""
    last_radius: NonNegative = 0.3
    """Of the perturbation, towards the last epoch."""
    eigenvalue_rows: Count = 0
    """Rows on which the dominant eigenvalue of the Hessian is measured after each epoch; 0: not measured."""
    stop_ratio: NonNegative = 0.0
    """R-DARTS (Zela et al. 2020, 1.3): stop when the smoothed eigenvalue grows by this factor; 0: never."""
    window: Rounds = 5
    """Epochs over which the eigenvalue is averaged."""
    back: Rounds = 4
    """Epochs over which its growth is measured."""
    patience: Rounds = 10
    """Epochs before the search may stop."""

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.stop_ratio and not self.eigenvalue_rows:
            raise ValueError(
                f"stop_ratio is {self.stop_ratio} and eigenvalue_rows is 0, expected rows to measure it on"
            )
        return self
