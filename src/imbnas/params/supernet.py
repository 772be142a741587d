"""Section `supernet`: training the weight-sharing network on the balanced source."""

from __future__ import annotations

from imbnas.params.recipe import RecipeParams
from imbnas.params.section import View
from imbnas.params.shared import Epochs, Rounds, Sampling, TrainingNumerics
from imbnas.params.space_options import SpaceParams


class SupernetParams(RecipeParams):
    """The supernet's training."""

    epochs: Epochs = 40
    sampling: Sampling = "fair"
    """Paths of one optimiser step: one uniform path; every choice of every block once (FairNAS); or the largest, the
    smallest and two uniform paths. `mixture`, in the space darts: no path, but all operations at equal weights."""
    probe_paths: Rounds = 32
    """Random paths whose mean balanced accuracy on the source's validation rows is logged at the end."""


class SupernetView(View):
    """The view of the step `supernet`."""

    seed: int
    space: SpaceParams
    runtime: TrainingNumerics
    supernet: SupernetParams
