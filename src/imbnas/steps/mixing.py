"""Mixing of images and labels, from parameters to what the training loop calls."""

from __future__ import annotations

from imbnas.longtail.mixing import Mixer
from imbnas.params.recipe import RecipeParams
from imbnas.training.loop import Mix


def make_mix(recipe: RecipeParams, counts: list[int]) -> Mix | None:
    """Return the recipe's mixing of images and labels for training rows of these class counts; None for none."""
    mixing = recipe.mixing
    if mixing.name == "none":
        return None
    return Mixer(mixing.name, counts, mixing.alpha, mixing.kappa, mixing.tau)
