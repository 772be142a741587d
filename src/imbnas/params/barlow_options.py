"""Barlow Twins: what the differentiable search and the pretraining of the final network have in common."""

from __future__ import annotations

from imbnas.params.section import Section
from imbnas.params.shared import Above, Epochs, NonNegative, Pairs, Width


class ProjectorParams(Section):
    """The projector of Barlow Twins (Zbontar et al. 2021) and its loss."""

    hidden: Width = 512
    """Width of the projector's hidden layers."""
    outputs: Width = 512
    """Width of its output."""
    off_diagonal: NonNegative = 0.005
    """Weight of the correlations between different outputs."""


class PretrainParams(ProjectorParams):
    """Barlow Twins on the long-tailed rows before the final training: no label is looked at."""

    epochs: Epochs = 0
    """Passes over the rows; 0: none."""
    batch_size: Pairs = 128
    """Rows in one step, each of them twice."""
    lr: Above = 0.1
    """Peak learning rate; what else there is to the optimiser, schedule and augmentation is the final training's."""
