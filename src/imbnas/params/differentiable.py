"""Section `search.darts`: gradient descent on the architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.barlow_options import ProjectorParams
from imbnas.params.cost_options import CostParams
from imbnas.params.longtail import LongTailParams
from imbnas.params.loss_options import LOSSES
from imbnas.params.protocol_options import StabilityParams
from imbnas.params.recipe import AugmentParams, OptimizerParams
from imbnas.params.section import Section
from imbnas.params.shared import Above, Count, Epochs, Fraction, NonNegative, Pairs, Rounds, Share
from imbnas.params.zeroth_options import TemperatureParams, ZerothParams

if TYPE_CHECKING:
    OuterLoss = str
else:
    OuterLoss = Literal["same", *LOSSES]

Open = Annotated[float, Field(gt=0.0, lt=1.0)]


FROZEN = ("none", "head")
"""Strategies of `adapt` whose backbone does not learn; then it does not in a differentiable search either."""


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


class DartsParams(LongTailParams):
    """A differentiable search (DARTS, Liu et al. 2019) and its long-tailed, fair and self-supervised relatives."""

    order: Literal["first", "second", "zeroth"] = "first"
    """`second` differentiates through the weights' next step: better founded, two to three times slower. `zeroth`
    compares the weights with those of a twin at another architecture (ZO-DARTS+, arXiv 2405.03462)."""
    epochs: Rounds = 50
    """Passes over the weights' half of the rows."""
    batch_size: Pairs = 64
    """Rows of each half in one step."""
    share: Open = 0.5
    """Share of each class's rows on which the weights learn; the architecture learns on the others."""
    split: Literal["fixed", "redrawn"] = "fixed"
    """`fixed`: each level has the same rows in every epoch (DARTS); `redrawn`: every epoch draws the shares of each
    class anew, so that the weights see all rows in time, and no epoch's architecture rows (with `share` 0.8 to 0.9)."""
    outcome: Literal["cell", "mixture"] = "cell"
    """`cell`: the best operations, which `retrain` trains; `mixture` (single-stage, arXiv 2405.16610): the search
    network as it is; from `freeze` on its architecture is constant and its weights learn on all rows."""
    freeze: Open = 0.5
    """Of mixture: share of the epochs in which the architecture learns."""
    optimizer: OptimizerParams = OptimizerParams(
        lr=0.025, nesterov=False, weight_decay=3.0e-4, decay_norms=True, clip=5.0
    )
    """Of the weights."""
    last_lr: NonNegative = 0.001
    """The weights' learning rate towards the end, at the foot of half a cosine."""
    augment: AugmentParams = AugmentParams()
    """Augmentation of both halves."""
    branches: Literal["one", "bilateral"] = "one"
    """`bilateral` (HLRS): the last cell twice, its copy fed by reversed sampling, in both levels."""
    mixing: Literal["parabolic", "symmetric", "half", "linear", "cosine", "fixed"] = "parabolic"
    """Weight of the first branch, with t the share of the search: 1 - t^2 (BBN), 0.5, 1 - t^2 / 2, 1 - t,
    cos(t pi / 2), or `fixed`."""
    fixed: Share = 0.5
    """Of the mixing `fixed`."""
    relaxation: Literal["softmax", "sigmoid", "sparsemax"] = "softmax"
    """`softmax`: operations of an edge compete; `sigmoid`: they do not (FairDARTS, Chu et al. 2020); `sparsemax`: they
    compete, and weak ones weigh exactly 0 (ZO-DARTS+, arXiv 2405.03462)."""
    zero_one: NonNegative = 0.0
    """Of sigmoid: weight of the loss that drives weights to 0 or 1 (FairDARTS: 10)."""
    zero_one_norm: Literal["l2", "l1"] = "l2"
    """Of that loss: squares or absolute values."""
    threshold: Share = 0.85
    """Of sigmoid: least weight of an edge in the derived cell; a node keeps its strongest edge in any case."""
    edge_weights: bool = False
    """Edges into a node compete too, by a softmax of their own (PC-DARTS, Xu et al. 2020)."""
    objective: Literal["labels", "barlow-twins"] = "labels"
    """What both levels minimise: `loss`, or Barlow Twins on two views of each image (SSF-NAS)."""
    barlow: BarlowParams = BarlowParams()
    """Of barlow-twins."""
    architecture: ArchitectureParams = ArchitectureParams()
    """How the architecture parameters learn."""
    zeroth: ZerothParams = ZerothParams()
    """Of the order `zeroth`."""
    temperature: TemperatureParams = TemperatureParams()
    """Of sparsemax."""
    cost: CostParams = CostParams()
    """What the architecture's level pays for expected costs beyond bounds."""
    collapse: CollapseParams = CollapseParams()
    """What is done against collapse."""
    stability: StabilityParams = StabilityParams()
    """When the search stops, or a mixture's architecture is frozen, since its weights have settled."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        soft = self.relaxation != "sigmoid"
        if soft and self.zero_one:
            raise ValueError(f"zero_one is {self.zero_one} with relaxation {self.relaxation}, expected 0, or sigmoid")
        if not soft and self.collapse.perturbation != "none":
            raise ValueError(
                f"collapse.perturbation is {self.collapse.perturbation} with relaxation sigmoid, expected none: it "
                "perturbs shares of an edge"
            )
        if not soft and self.edge_weights:
            raise ValueError("edge_weights is true with relaxation sigmoid, expected false, or softmax")
        if self.order == "zeroth" and self.collapse.perturbation != "none":
            raise ValueError(
                f"collapse.perturbation is {self.collapse.perturbation} with order zeroth, expected none: weights and "
                "twin are to differ by their architecture alone"
            )
        if self.architecture.warmup >= self.epochs:
            raise ValueError(f"architecture.warmup is {self.architecture.warmup}, expected less than epochs")
        if self.cost.name != "none" and self.cost.start >= self.learning_epochs:
            raise ValueError(
                f"cost.start is {self.cost.start}, expected less than the {self.learning_epochs} epochs in which the "
                "architecture learns"
            )
        if self.objective == "barlow-twins":
            self._self_supervised()
        if self.outcome == "mixture":
            self._single_stage()
        return self

    @property
    def learning_epochs(self) -> int:
        """Epochs in which the architecture may learn: all, or those before a mixture is frozen, at least one."""
        return max(1, int(self.epochs * self.freeze + 0.5)) if self.outcome == "mixture" else self.epochs

    @property
    def outer_loss(self) -> str:
        """The loss of the architecture's step."""
        return self.loss if self.architecture.loss == "same" else self.architecture.loss

    @property
    def on_cosines(self) -> str:
        """The first parameter whose loss has margins on cosines, with its value as `loss is ldam`; "" for none."""
        named = {"loss": self.loss, "architecture.loss": self.outer_loss}
        found = [name for name, loss in named.items() if LOSSES[loss].cosine and self.objective == "labels"]
        return f"{found[0]} is {named[found[0]]}" if found else ""

    @property
    def blind(self) -> bool:
        """Whether no label is looked at."""
        return self.objective == "barlow-twins" and self.barlow.labels == 0.0

    def _single_stage(self) -> None:
        if self.learning_epochs >= self.epochs:
            raise ValueError(
                f"epochs is {self.epochs} with outcome mixture and freeze {self.freeze}, expected epochs that are left "
                "once the architecture is frozen"
            )
        if self.architecture.warmup >= self.learning_epochs:
            raise ValueError(
                f"architecture.warmup is {self.architecture.warmup} with outcome mixture, expected less than the "
                f"{self.learning_epochs} epochs in which the architecture learns (freeze)"
            )
        unfit = {
            f"branches is {self.branches}": self.branches != "one",
            f"objective is {self.objective}": self.objective != "labels",
            f"collapse.skip is {self.collapse.skip}": self.collapse.skip != "none",
            f"collapse.stop_ratio is {self.collapse.stop_ratio:g}": self.collapse.stop_ratio > 0.0,
            # A mixture costs what all operations that act cost, however little they weigh.
            f"cost.name is {self.cost.name}": self.cost.name != "none",
        }
        expected = ("one", "labels", "none", "0", "none")
        for (text, wanted), default in zip(unfit.items(), expected, strict=True):
            if wanted:
                raise ValueError(
                    f"{text} with outcome mixture, expected {default}: the search network is the final one, as it is "
                    "after the last epoch"
                )

    def _self_supervised(self) -> None:
        if self.branches == "bilateral":
            raise ValueError("branches is bilateral with objective barlow-twins, expected one, or objective labels")
        if self.blind and (self.sampler.name != "instance" or self.architecture.sampler not in ("same", "instance")):
            raise ValueError(
                f"sampler.name is {self.sampler.name} and architecture.sampler is {self.architecture.sampler} with "
                "objective barlow-twins, expected instance: classes are not known"
            )


def idle_option(options: DartsParams, strategy: str) -> str:
    """Return what is wrong with an option that needs weights to learn which the adaptation froze; "" for nothing."""
    idle = {
        f"order is {options.order}": options.order != "first",
        "branches is bilateral": options.branches == "bilateral",
        "objective is barlow-twins": options.objective == "barlow-twins",
        f"collapse.skip is {options.collapse.skip}": options.collapse.skip != "none",
        f"collapse.perturbation is {options.collapse.perturbation}": options.collapse.perturbation != "none",
        f"outcome is {options.outcome}": options.outcome != "cell",
        f"split is {options.split}": options.split != "fixed",
    }
    found = next((text for text, wanted in idle.items() if wanted and strategy in FROZEN), "")
    return found and (
        f"search.darts.{found} with adapt.strategy {strategy}, whose weights stay as they are; expected "
        "adapt.strategy finetune or scratch, or the default"
    )
