"""The loss of adaptation and retraining over the epochs, from parameters and the long tail's class counts."""

from __future__ import annotations

import torch

from imbnas.longtail.losses import build_loss
from imbnas.longtail.mixing import Mixer
from imbnas.longtail.schedules import switch_epoch
from imbnas.params.recipe import RecipeParams, WeightingParams
from imbnas.training.loop import Mix, Objective


def make_objective(
    name: str, weighting: WeightingParams, recipe: RecipeParams, counts: list[int], device: torch.device
) -> Objective:
    """Return plain cross-entropy until `weighting.defer` of the epochs is over, the loss called `name` from then on.

    Deferred re-weighting, Cao et al. 2019: with 200 epochs and 0.8 the weights act from the 0-based epoch 160.
    """
    plain = build_loss("ce", counts, label_smoothing=recipe.label_smoothing).to(device)
    weighted = build_loss(
        name,
        counts,
        beta=weighting.beta,
        reduction=weighting.reduction,
        label_smoothing=recipe.label_smoothing,
    ).to(device)
    first = switch_epoch(recipe.epochs, weighting.defer)
    return lambda epoch: weighted if epoch >= first else plain


def make_mix(recipe: RecipeParams, counts: list[int]) -> Mix | None:
    """Return the recipe's mixing of images and labels for training rows of these class counts; None for none."""
    mixing = recipe.mixing
    if mixing.name == "none":
        return None
    return Mixer(mixing.name, counts, mixing.alpha, mixing.kappa, mixing.tau)
