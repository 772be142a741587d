"""The parts of a long-tailed training, made from parameters: loss over the epochs, sampler, first classifier."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from imbnas.data.order import InstanceSampler, Sampler
from imbnas.longtail.bilateral_sampler import BilateralSampler
from imbnas.longtail.cumulative import CumulativeLoss
from imbnas.longtail.heads import LINEAR
from imbnas.longtail.losses import LOSS_CLASSES, build_loss
from imbnas.longtail.samplers import (
    REVERSED_POWER,
    SAMPLERS,
    ClassSampler,
    DeferredSampler,
    power_probabilities,
)
from imbnas.longtail.schedules import bbn_alpha, switch_epoch
from imbnas.params.longtail import ANGULAR, ClassifierTraining, SamplerParams, weighted
from imbnas.params.loss_options import LOSSES
from imbnas.params.recipe import RecipeParams
from imbnas.seeds import derive
from imbnas.training.definition import Objective


def make_objective(
    section: ClassifierTraining, recipe: RecipeParams, counts: list[int], device: torch.device
) -> Objective:
    """Return the section's loss; where it weighs classes, without weights until `weighting.defer` of the epochs.

    Deferred re-weighting, Cao et al. 2019: with 200 epochs and 0.8 the weights act from the 0-based epoch 160. The
    margins of ldam are multiplied by the scale of the cosine classifier on which it works.
    """
    name, weighting = section.loss, section.weighting
    entry = LOSSES[name]
    smoothing = recipe.label_smoothing if entry.smoothable else 0.0
    options = LOSS_CLASSES[name].scaled(section.losses.of(name), section.classifier.scale)
    common: dict[str, Any] = {"reduction": weighting.reduction, "beta": weighting.beta, "label_smoothing": smoothing}
    if entry.weights is None:
        options["weighting"] = weighting.weights
    final = build_loss(name, counts, **common, **options).to(device)
    if not weighted(name, weighting):
        return lambda epoch: final
    plain_name, plain = ("ce", {}) if entry.weights is not None else (name, {**options, "weighting": "none"})
    first = build_loss(plain_name, counts, **common, **plain).to(device)
    switch = switch_epoch(recipe.epochs, weighting.defer)
    return lambda epoch: final if epoch >= switch else first


def make_sampler(params: SamplerParams, labels: np.ndarray, seed: int, epochs: int) -> Sampler:
    """Return the sampler over the rows of these labels (N,); where it is deferred, instance sampling comes first.

    Raises UserError where a class has no rows, or deferral would change the length of an epoch (class-aware with
    length longest).
    """
    sampler = SAMPLERS[params.name](params, labels, seed, epochs)
    switch = switch_epoch(epochs, params.defer)
    if params.name == "instance" or switch == 0:
        return sampler
    return DeferredSampler(InstanceSampler(labels, seed), sampler, switch)


def bilateral_sampler(params: SamplerParams, labels: np.ndarray, seed: int, epochs: int, batch_size: int) -> Sampler:
    """Return BBN's pairs of batches: rows as `make_sampler` gives them, beside rows by reversed sampling."""
    conventional = make_sampler(params, labels, seed, epochs)
    chances = power_probabilities(np.bincount(labels), REVERSED_POWER)
    rows = len(conventional.epoch(0))
    rebalancing = ClassSampler(labels, derive(seed, "rebalancing"), chances, rows)
    return BilateralSampler(conventional, rebalancing, batch_size)


def cumulative(objective: Objective, epochs: int) -> Objective:
    """Return BBN's mixed loss of each epoch, its factor falling from 1 (Zhou et al. 2020, equation 4)."""
    return lambda epoch: CumulativeLoss(cast(nn.Module, objective(epoch)), bbn_alpha(epoch, epochs))


def describe_head(name: str, scale: float) -> dict[str, Any]:
    """Return the description of such a classifier for a network's metadata, see `longtail.heads.make_head`."""
    return {"name": name, "scale": scale} if name in ANGULAR else dict(LINEAR)
