"""Section `search.darts`: gradient descent on the architecture."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.cost_options import CostParams
from imbnas.params.descent_options import ArchitectureParams, BarlowParams, CollapseParams
from imbnas.params.longtail import LongTailParams
from imbnas.params.loss_options import LOSSES
from imbnas.params.protocol_options import PruningParams, StabilityParams
from imbnas.params.recipe import AugmentParams, OptimizerParams
from imbnas.params.shared import Epochs, NonNegative, Pairs, Rounds, Share
from imbnas.params.zeroth_options import TemperatureParams, ZerothParams

Open = Annotated[float, Field(gt=0.0, lt=1.0)]


REASONS = {
    "order": ": there is no lower level whose answer the architecture's gradient could follow",
    "split": ": all rows teach both",
    "architecture.sampler": ": both learn from one batch",
    "architecture.loss": ": both have one loss",
    "collapse.perturbation": ": the weights have no step of their own in which the architecture could be moved",
    "relaxation": ": each operation needs a weight of its own that falls",
}
"""Why one level, or pruning, goes with one value of a parameter alone."""
FROZEN = ("none", "head")
"""Strategies of `adapt` whose backbone does not learn; then it does not in a differentiable search either."""


class DartsParams(LongTailParams):
    """A differentiable search (DARTS, Liu et al. 2019) and its long-tailed, fair and self-supervised relatives."""

    order: Literal["first", "second", "zeroth"] = "first"
    """`second` differentiates through the weights' next step: better founded, two to three times slower. `zeroth`
    compares the weights with those of a twin at another architecture (ZO-DARTS+, arXiv 2405.03462)."""
    optimization: Literal["bilevel", "one-level"] = "bilevel"
    """`bilevel`: the architecture learns on rows of its own (DARTS); `one-level`: weights and architecture learn
    together, by one gradient on all rows (GOLD-NAS, arXiv 2007.03331)."""
    epochs: Rounds = 50
    """Passes over the weights' rows, in `bilevel` their half."""
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
    switch: Epochs = 0
    """Of the space nasbench201 with kernels or exits: epochs before these are searched. Until then the largest kernel
    and all cells are there; smaller kernels begin as its centre (ZO-DARTS++, arXiv 2503.06092: 20)."""
    cost: CostParams = CostParams()
    """What the architecture's level pays for expected costs beyond bounds."""
    pruning: PruningParams = PruningParams()
    """Of one-level with sigmoid: weak operations are pruned, and what is left on an edge is derived."""
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
        if self.switch >= self.epochs:
            raise ValueError(f"switch is {self.switch}, expected less than epochs")
        if self.cost.name != "none" and self.cost.start >= self.learning_epochs:
            raise ValueError(
                f"cost.start is {self.cost.start}, expected less than the {self.learning_epochs} epochs in which the "
                "architecture learns"
            )
        if self.objective == "barlow-twins":
            self._self_supervised()
        if self.outcome == "mixture":
            self._single_stage()
        self._levels()
        return self

    @property
    def learning_epochs(self) -> int:
        """Epochs in which the architecture may learn: all, or those before a mixture is frozen, at least one."""
        return max(1, int(self.epochs * self.freeze + 0.5)) if self.outcome == "mixture" else self.epochs

    @property
    def derived_from(self) -> float:
        """The least weight of a sigmoid's operation in the derived cell: any, where weak ones are pruned."""
        return 0.0 if self.pruning.per_epoch else self.threshold

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

    def _levels(self) -> None:
        """Refuse what needs two levels in one, and pruning where operations do not have weights of their own."""
        prunes = self.pruning.per_epoch > 0
        one = self.optimization == "one-level"
        unfit = (
            (one, "order", self.order, "first"),
            (one, "split", self.split, "fixed"),
            (one, "architecture.sampler", self.architecture.sampler, "same"),
            (one, "architecture.loss", self.architecture.loss, "same"),
            (one, "collapse.perturbation", self.collapse.perturbation, "none"),
            (prunes and one, "relaxation", self.relaxation, "sigmoid"),
        )
        for acts, name, found, expected in unfit:
            if acts and found != expected:
                beside = "pruning.per_epoch above 0" if name == "relaxation" else "optimization one-level"
                raise ValueError(f"{name} is {found} with {beside}, expected {expected}{REASONS[name]}")
        if prunes and not one:
            raise ValueError(
                f"pruning.per_epoch is {self.pruning.per_epoch} with optimization {self.optimization}, expected 0, or "
                "one-level"
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
        f"optimization is {options.optimization}": options.optimization != "bilevel",
        f"outcome is {options.outcome}": options.outcome != "cell",
        f"switch is {options.switch}": options.switch > 0,
        f"split is {options.split}": options.split != "fixed",
    }
    found = next((text for text, wanted in idle.items() if wanted and strategy in FROZEN), "")
    return found and (
        f"search.darts.{found} with adapt.strategy {strategy}, whose weights stay as they are; expected "
        "adapt.strategy finetune or scratch, or the default"
    )
