"""The zeroth-order gradient of a differentiable search, and the temperature of its sparse weights."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imbnas.params.section import Section
from imbnas.params.shared import Above, Rounds


class ZerothParams(Section):
    """The architecture's gradient from a twin at moved architecture parameters (ZO-DARTS+, arXiv 2405.03462)."""

    period: Rounds = 10
    """Steps that the weights and their twin take before each step of the architecture."""
    radius: Above = 0.005
    """How far the twin's architecture parameters are moved, over the norm of all of them."""
    radius_floor: Above = 1.0e-3
    """The least that they are moved by: below it the difference of float32 weights is rounding."""
    directions: Rounds = 1
    """Random directions that are averaged; each costs the steps of another twin."""
    antithetic: bool = False
    """A second twin on the other side of each direction: errors of odd order cancel."""


class TemperatureParams(Section):
    """The divisor of the architecture parameters under sparsemax (ZO-DARTS+, arXiv 2405.03462)."""

    first: Above = 1.5
    """In the first epochs. An edge is left with one operation once that leads by the temperature."""
    factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.75
    """It falls by this factor at a time."""
    every: Rounds = 5
    """Epochs at each temperature."""
