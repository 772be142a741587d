"""The methods of `seeds_results.py`: what each changes in the chain's parameters, and how its result is judged."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

from longtail import merged

Tree = dict[str, Any]
Kind = Literal["cell", "network", "draws"]
RANDOM, MACS, SINGLE = "random cells", "macs", "single-stage"
APPROXIMATE = {"ApproxDARTS, truncated-1": "truncated-1", "ApproxDARTS, first-truncated-6": "first-truncated-6"}
"""A multiplier with a small error and one with a large one, by the method's name."""
DRAWS = 3
"""Random cells for each seed: one alone would make the control noisier than what is compared with it."""


@dataclass(frozen=True)
class Epochs:
    """How long the trainings before the final one take; a single-stage run takes a search and a final training."""

    supernet: int = 48
    head: int = 12
    search: int = 24


@dataclass(frozen=True)
class Method:
    """One way to find an architecture: its changes, and whether it gives a cell, a network, or random cells."""

    changes: Tree = field(default_factory=dict)
    kind: Kind = "cell"
    passes: float = 1.0
    """About how many times the work of first-order DARTS an epoch takes, for the plan; 0: seconds."""


def methods(epochs: Epochs, retrain: Tree) -> dict[str, Method]:
    """Return the methods by name; `retrain` is the final training's recipe, which a single-stage run has too."""
    batch = retrain["batch_size"]
    supernet: Tree = {
        "supernet": {"epochs": epochs.supernet, "batch_size": 128, "sampling": "uniform", "optimizer": OPTIMIZER},
        "adapt": {
            "strategy": "head",
            "sampling": "uniform",
            "head": {"epochs": epochs.head, "batch_size": 128, "optimizer": OPTIMIZER},
        },
    }
    self_supervised: Tree = {"objective": "barlow-twins", "augment": {"policy": "randaugment"}}
    zeroth: Tree = {
        "order": "zeroth",
        "relaxation": "sparsemax",
        "optimizer": {"lr": 0.1, "nesterov": True},
        "zeroth": {"period": 5},
        "architecture": {"lr": 0.015},
        "temperature": {"every": max(1, epochs.search // 10)},
    }
    single: Tree = {
        "outcome": "mixture",
        "split": "redrawn",
        "share": 0.85,
        "relaxation": "sparsemax",
        "epochs": epochs.search + retrain["epochs"],
        "freeze": 0.5,
        "batch_size": batch + batch % 2,
        "optimizer": retrain["optimizer"],
        "architecture": {"lr": 0.015},
        "temperature": {"every": max(1, (epochs.search + retrain["epochs"]) // 20)},
    }
    return {
        "DARTS": Method(darts(epochs)),
        "HLRS": Method(darts(epochs, {"branches": "bilateral", "architecture": {"schedule": "cumulative"}}), passes=2),
        "FairDARTS": Method(darts(epochs, FAIR)),
        "FairDARTS, self-supervised": Method(darts(epochs, merged(FAIR, self_supervised)), passes=2.5),
        "ZO-DARTS+": Method(darts(epochs, zeroth)),
        **{
            name: Method({**darts(epochs), "approximate": {"multiplier": multiplier}}, passes=2.5)
            for name, multiplier in APPROXIMATE.items()
        },
        SINGLE: Method(darts(epochs, single), "network", 1 + retrain["epochs"] / epochs.search),
        "DARTS on the adapted head": Method({**darts(epochs), **deepcopy(supernet)}),
        "IMB-NAS' evolution": Method({**deepcopy(supernet), "search": {"method": "evolution", "max_macs": None}}),
        MACS: Method({**UNTRAINED, "search": {"method": "macs", "max_macs": None}}, passes=0),
        RANDOM: Method(kind="draws", passes=0),
    }


OPTIMIZER: Tree = {"lr": 0.1, "weight_decay": 5.0e-4}
UNTRAINED: Tree = {
    "supernet": {"sampling": "uniform", "probe_paths": 1, "epochs": 0},
    "adapt": {"strategy": "scratch", "sampling": "uniform", "scratch": {"epochs": 0}},
}
"""Random weights: the search trains its network itself."""
FAIR: Tree = {
    "relaxation": "sigmoid",
    "zero_one": 10.0,
    "optimizer": {"lr": 0.005},
    "architecture": {"beta1": 0.9},
}
"""FairDARTS' parameters, as in the preset of SSF-NAS."""


def darts(epochs: Epochs, changes: Tree | None = None) -> Tree:
    """Return the changes of a differentiable search that begins with random weights.

    The order is the first in all but ZO-DARTS+, so that the others differ by what their names say. The architecture's
    rate is larger than on whole CIFAR-10 because there are few steps.
    """
    own: Tree = {"epochs": epochs.search, "batch_size": 64, "architecture": {"lr": 0.003}}
    return {**deepcopy(UNTRAINED), "search": {"method": "darts", "max_macs": None, "darts": merged(own, changes or {})}}
