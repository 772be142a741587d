"""Options of a derived network's final training: a second classifier, drop-path, pretraining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from imbnas.data.order import InstanceSampler
from imbnas.differentiable.barlow import Projector, barlow_twins
from imbnas.params.recipe import MixingParams
from imbnas.params.retrain import RetrainParams
from imbnas.seeds import derive
from imbnas.spaces.darts_auxiliary import AuxiliaryHead, tapped_cell
from imbnas.spaces.darts_genotype import NODES
from imbnas.spaces.darts_network import CellSpec, DerivedCell
from imbnas.spaces.networks import Subnet
from imbnas.steps.workbench import TrainingStep
from imbnas.training.definition import Loss, Training


class TwoClassifiers(nn.Module):
    """A derived network in training: the logits of its own head and of one at two thirds of the depth."""

    def __init__(self, network: Subnet, auxiliary: AuxiliaryHead) -> None:
        """Take the network, which is trained in place, and the classifier that is thrown away afterwards."""
        super().__init__()
        self.network = network
        self.auxiliary = auxiliary

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return both logits (N, classes) for images (N, C, H, W)."""
        states = self.network.stem(images)
        tap = states[1]
        for place, cell in enumerate(self.network.blocks):
            states = cell(states)
            if place == tapped_cell(len(self.network.blocks)):
                tap = states[1]
        features = self.network.pool(self.network.last(states))
        return self.network.head(features), self.auxiliary(tap)


class TwinNetwork(nn.Module):
    """A network whose features go through a projector: two views of each image, one behind the other."""

    def __init__(self, network: Subnet, projector: Projector) -> None:
        """Take the network, which is trained in place, and the projector, which is thrown away afterwards."""
        super().__init__()
        self.network = network
        self.projector = projector

    def forward(self, images: Tensor) -> Tensor:
        """Return the projector's outputs (2 N, D)."""
        outputs: Tensor = self.projector(self.network.features(images))
        return outputs


def with_cells(
    training: Training, network: Subnet, recipe: RetrainParams, specs: list[CellSpec], side: int, classes: int
) -> Training:
    """Return the training of a derived network with its auxiliary classifier and drop-path.

    `specs` are its cells and `side` the image's after the stem. The chance of drop-path rises linearly over the epochs
    (Liu et al. 2019).
    """
    if recipe.auxiliary:
        spec = specs[tapped_cell(len(specs))]
        # Each reduction rounds up.
        tapped = -(-side // 2 ** sum(one.reduces for one in specs[: tapped_cell(len(specs)) + 1]))
        torch.manual_seed(derive(training.seed, training.name, "auxiliary"))
        auxiliary = AuxiliaryHead(NODES * spec.channels, tapped, classes)
        training = replace(training, model=TwoClassifiers(network, auxiliary))
    inner = training.objective

    def objective(epoch: int) -> Loss:
        for cell in network.blocks:
            if isinstance(cell, DerivedCell):
                cell.drop = recipe.drop_path * epoch / recipe.epochs
        loss = inner(epoch)
        return _both(loss, recipe.auxiliary) if recipe.auxiliary else loss

    return replace(training, objective=objective)


def stop_dropping(network: nn.Module) -> None:
    """End the drop-path of the derived cells: it belongs to the training that `with_cells` describes."""
    for cell in network.modules():
        if isinstance(cell, DerivedCell):
            cell.drop = 0.0


def _both(loss: Loss, weight: float) -> Loss:
    def total(logits: Any, target: Any) -> Tensor:
        return loss(logits[0], target) + weight * loss(logits[1], target)

    return total


def pretraining(step: TrainingStep, training: Training, network: Subnet, recipe: RetrainParams) -> Training:
    """Return Barlow Twins on the rows of `training` as a training of its own, which reads no label."""
    plan = recipe.pretrain
    torch.manual_seed(derive(step.seed, "pretrain", "weights"))
    optimizer = recipe.optimizer.model_copy(update={"lr": plan.lr})
    changed = {"epochs": plan.epochs, "batch_size": plan.batch_size, "optimizer": optimizer, "mixing": MixingParams()}

    def loss(outputs: Tensor, labels: Any) -> Tensor:
        first, second = outputs.chunk(2)
        return barlow_twins(first, second, plan.off_diagonal) / plan.outputs

    return Training(
        name="pretrain",
        model=TwinNetwork(network, Projector(step.space.subnet_features, plan.hidden, plan.outputs)),
        recipe=recipe.model_copy(update=changed),
        store=training.store,
        augment=_two_views(training.augment),
        sampler=InstanceSampler(step.rows.labels, derive(step.seed, "pretrain", "rows")),
        objective=lambda epoch: loss,
        seed=step.seed,
        views_in=2,
        views_out=2,
    )


def _two_views(augment: Callable[[Tensor, torch.Generator], Tensor]) -> Callable[[Tensor, torch.Generator], Tensor]:
    return lambda images, generator: torch.cat([augment(images, generator), augment(images, generator)])
