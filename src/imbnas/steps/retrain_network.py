"""The first stage of the step `retrain`: a network with seeded weights, and its training on the long tail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from imbnas.longtail.heads import make_head
from imbnas.longtail.losses import capturable
from imbnas.longtail.schedules import bbn_alpha
from imbnas.params.retrain import RetrainParams
from imbnas.seeds import derive
from imbnas.spaces.bilateral import BilateralSubnet
from imbnas.spaces.darts import DartsSpace
from imbnas.spaces.implanted import hold_backbone
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.steps.objective import bilateral_sampler, cumulative, describe_head, make_objective, make_sampler
from imbnas.steps.retrain_cells import pretraining, stop_dropping, with_cells
from imbnas.steps.workbench import TrainingStep
from imbnas.training.definition import Training
from imbnas.training.distillation import distilled
from imbnas.training.inputs import batches_of
from imbnas.training.state import ResumeState
from imbnas.training.turns import Trainings


def new_network(
    step: TrainingStep, recipe: RetrainParams, architecture: Architecture
) -> tuple[Subnet | BilateralSubnet, dict[str, Any]]:
    """Return a network with seeded weights, and the description of its head."""
    torch.manual_seed(derive(step.seed, "retrain", "weights"))
    head = describe_head(recipe.classifier.chosen(recipe.loss), recipe.classifier.scale)
    if recipe.branches == "bilateral":
        return step.placed(step.space.build_bilateral(architecture, step.classes, step.shape[2])), head
    model = step.space.build_subnet(architecture, step.classes, step.shape[2])
    if head["name"] != "linear":
        model.head = make_head(head, step.space.subnet_features, step.classes)
    step.placed(model)
    if recipe.frozen:
        hold_backbone(model)
    return model, head


def train_network(
    step: TrainingStep,
    recipe: RetrainParams,
    model: Subnet | BilateralSubnet,
    tag: str,
    teacher: nn.Module | None = None,
) -> Trainings[tuple[list[float], list[ResumeState]]]:
    """Train a network in place, after its pretraining if there is one; `tag` tells states apart.

    It follows the teacher as `recipe.distill` says. Returns the loss of each epoch of the last training, and the states
    of all.
    """
    training = _training(step, recipe, model, teacher)
    trainings = [(_final(step, recipe, model, training), step.state(tag))]
    if isinstance(model, Subnet) and recipe.pretrain.epochs:
        trainings.insert(0, (pretraining(step, training, model, recipe), step.state(f"pretrain-{tag}")))
    losses: list[float] = []
    for one, state in trainings:
        losses = yield step.trainer(one, state, tag).turns()
    stop_dropping(model)
    return losses, [state for _, state in trainings]


def _training(
    step: TrainingStep, recipe: RetrainParams, model: Subnet | BilateralSubnet, teacher: nn.Module | None
) -> Training:
    objective = make_objective(recipe, recipe, step.rows.counts, step.runtime.device)
    if teacher is not None:
        objective = distilled(objective, recipe.distill.weight, recipe.distill.temperature)
    return Training(
        name="retrain",
        model=model,
        recipe=recipe,
        store=step.store(),
        augment=step.augment(recipe.augment),
        sampler=make_sampler(recipe.sampler, step.rows.labels, derive(step.seed, "retrain", "rows"), recipe.epochs),
        objective=objective,
        mix=step.mix(recipe),
        teacher=teacher,
        seed=step.seed,
        capturable=capturable(recipe.loss) and not recipe.drop_path,
    )


def _final(step: TrainingStep, recipe: RetrainParams, model: Subnet | BilateralSubnet, training: Training) -> Training:
    """Return the training with what belongs to two branches, or to derived cells."""
    if isinstance(model, BilateralSubnet):
        return _bilateral(step, recipe, training)
    space = step.space
    if isinstance(space, DartsSpace):
        side = -(-step.shape[0] // space.stem_stride)
        return with_cells(training, model, recipe, space.derived.specs, side, step.classes)
    return training


def _bilateral(step: TrainingStep, recipe: RetrainParams, training: Training) -> Training:
    """Return the training with BBN's pairs of batches, its mixed loss, and the mixing factor as a forward argument."""
    epochs, batch_size = recipe.epochs, 2 * recipe.batch_size
    seed = derive(step.seed, "retrain", "rows")
    sampler = bilateral_sampler(recipe.sampler, step.rows.labels, seed, epochs, recipe.batch_size)
    per_epoch = len(batches_of(sampler.epoch(0), batch_size))
    return replace(
        training,
        recipe=recipe.model_copy(update={"batch_size": batch_size}),
        sampler=sampler,
        objective=cumulative(training.objective, epochs),
        passes=lambda step: [(bbn_alpha(step // per_epoch, epochs),)],
        views_in=2,
    )
