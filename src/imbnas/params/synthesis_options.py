"""Options of the heads that learn from generated features too: how many features, and how they are made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imbnas.params.section import Section
from imbnas.params.shared import Above, Batch, NonNegative, Rounds

ProfileName = Literal["published", "balanced", "ratio", "per-class"]


class DiffusionParams(Section):
    """Class-conditional diffusion on features (LDMLR, Han et al. 2024)."""

    epochs: Rounds = 200
    """Passes over the features; LDMLR has 201."""
    batch_size: Batch = 256
    """Features in one optimiser step, as in LDMLR."""
    lr: Above = 1.0e-3
    """Peak learning rate of Adam, which falls to zero; LDMLR has SGD with 1e-4."""
    timesteps: Annotated[int, Field(ge=2, le=10_000)] = 100
    """Steps from noise to a feature; LDMLR has 1000."""
    width: Annotated[int, Field(ge=1, le=64)] = 4
    """Hidden units of the denoiser per feature."""


class CalibrationOptions(Section):
    """Distribution calibration (Yang et al. 2021)."""

    base: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Share of the classes, the largest first, that keep their own mean and covariance and lend them to the others."""
    neighbours: Annotated[int, Field(ge=1, le=1000)] = 2
    """Base classes whose statistics a row of a rarer class borrows: the nearest by their means; at most all."""
    spread: NonNegative = 0.21
    """Added to each entry of a borrowed covariance, of standardised features."""


class FeatureMixupParams(Section):
    """Mixup of features (Zhang et al. 2018, Verma et al. 2019)."""

    alpha: Above = 1.0
    """A share is drawn from Beta(alpha, alpha), and the larger part is that of the class's own row."""


class SynthesisParams(Section):
    """Generated features of the training rows' classes."""

    profile: ProfileName = "balanced"
    """How many features each class gets. `published` (LDMLR): max(round(`share` x n), `least`) in addition to its n
    rows. The others fill a class up to a number of rows and generated features together, and leave larger ones alone:
    `balanced` to the largest class, `ratio` to the largest class divided by `ratio`, `per-class` to `per_class`."""
    share: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.2
    """Of the profile published: generated features per row."""
    least: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    """Of the profile published: fewest generated features of a class."""
    ratio: Annotated[float, Field(ge=1.0)] = 10.0
    """Of the profile ratio: largest over smallest class, generated features included; 1 is balanced."""
    per_class: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Of the profile per-class: fewest rows and generated features of a class together."""
    diffusion: DiffusionParams = DiffusionParams()
    """Of the head latent-diffusion."""
    gaussian: CalibrationOptions = CalibrationOptions()
    """Of the head gaussian."""
    mixup: FeatureMixupParams = FeatureMixupParams()
    """Of the head mixup."""
