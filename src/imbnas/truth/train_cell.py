"""One training of a truth table: the first stage of the step `retrain`, judged as the step `evaluate` judges.

Its import closure is what a row's digest of code covers: nothing is imported here that changes no figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imbnas.data.stored import read_split
from imbnas.errors import UserError
from imbnas.longtail.shots import GROUPS
from imbnas.params.retrain import RetrainView
from imbnas.run.context import Context
from imbnas.saved import Network
from imbnas.spaces.cost import count
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.spaces.registry import make_space
from imbnas.steps.answers import answer
from imbnas.steps.retrain_network import new_network, train_network
from imbnas.steps.rows import image_meta, read_tail
from imbnas.steps.workbench import TrainingStep
from imbnas.training.state import ResumeState
from imbnas.training.turns import Trainings

BATCH = 512
"""Rows in one forward pass when a network is judged."""


@dataclass(frozen=True)
class Trained:
    """A trained cell: its figures by column, and the states on disk that its record makes needless."""

    figures: dict[str, Any]
    states: list[ResumeState]


def train_cell(
    view: RetrainView, context: Context, architecture: Architecture, groups: Sequence[str]
) -> Trainings[Trained]:
    """Train one architecture and judge it on the validation and the test rows.

    `groups` names the shot group of each class. Figures are shares in [0, 1]; `adjusted` ones are those of the same
    network after post-hoc logit adjustment by its training rows (Menon et al. 2021, tau 1).
    """
    tail, _ = read_tail(context)
    step = TrainingStep.start(context, view.runtime, make_space(view.space), tail, view.seed)
    model, _ = new_network(step, view.retrain, architecture)
    losses, states = yield from train_network(step, view.retrain, model, "-".join(map(str, architecture)))
    if not isinstance(model, Subnet):
        raise UserError("retrain.branches: found two branches, expected one")
    meta = {**image_meta(tail.split), "trained_counts": tail.counts}
    network = Network(model.eval(), meta, Path("-".join(map(str, architecture))))
    figures: dict[str, Any] = {}
    for name in ("validation", "test"):
        split = read_split(context.path(f"target_{name}"), context.root)
        plain, adjusted = (
            recalls(found.actual, found.predicted, step.classes)
            for found in (answer(network, split, step.runtime, context, BATCH, tau) for tau in (0.0, 1.0))
        )
        figures |= {name: float(plain.mean()), f"adjusted_{name}": float(adjusted.mean())}
        if name == "test":
            figures |= by_group(plain, groups)
    cost = count(model, step.shape)
    return Trained(
        {**figures, "loss": losses[-1] if losses else None, "macs": cost.macs, "params": cost.params}, states
    )


def recalls(actual: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the recall of each class; every class has rows."""
    support = np.bincount(actual, minlength=classes)
    return np.bincount(actual[actual == predicted], minlength=classes) / support


def by_group(recall: np.ndarray, groups: Sequence[str]) -> dict[str, float | None]:
    """Return the mean recall of each shot group, None for one without classes."""
    found = {}
    for group in GROUPS:
        inside = [value for value, name in zip(recall.tolist(), groups, strict=True) if name == group]
        found[group] = sum(inside) / len(inside) if inside else None
    return found
