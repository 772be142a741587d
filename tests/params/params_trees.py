"""What the tests of the parameters share: trees, their leaves, and another valid value for most of the knobs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from imbnas.params.config import load

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = ROOT / "params.yaml"
PRESETS = sorted((ROOT / "presets").rglob("*.yaml"))

# Each value is valid in the default tree and differs from the one there.
OTHERS: dict[str, Any] = {
    "seed": 7,
    "space.name": "mobile",
    "space.stem.channels": 24,
    "space.stem.stride": 2,
    "space.stages.channels": [16, 32, 48],
    "space.stages.strides": [2, 2, 2],
    "space.last_channels": 64,
    "space.shufflenet.choices": ["shuffle3", "xception"],
    "space.mobile.kernels": [3, 7],
    "space.mobile.skip": False,
    "space.darts.channels": 8,
    "space.darts.derived_layers": 8,
    "space.darts.operations": ["skip_connect", "sep_conv_3x3"],
    "space.darts.partial": 4,
    "runtime.device": "cpu",
    "runtime.precision": "bf16",
    "runtime.threads": 3,
    "runtime.channels_last": False,
    "runtime.deterministic": False,
    "runtime.processes": 2,
    "runtime.state_interval": 0.0,
    "runtime.workers": 0,
    "runtime.memory": 0.5,
    "runtime.gpu_share": 0.5,
    "runtime.together": 3,
    "source.dataset": "mnist",
    "source.root": "datasets/elsewhere",
    "source.seed": 3,
    "source.share": 0.25,
    "source.validation.per_class": 3,
    "source.verify": "headers",
    "target.dataset": "fashion-mnist",
    "target.root": "datasets/elsewhere",
    "target.image_size": 16,
    "target.channels": 3,
    "target.seed": 3,
    "target.test_fraction": 0.5,
    "target.verify": "headers",
    "target.validation.from": "longtail",
    "target.validation.per_class": 4,
    "target.validation.fraction": 0.5,
    "imbalance.profile": "natural",
    "imbalance.ratio": 0.01,
    "imbalance.n_max": 40,
    "imbalance.order": "shuffled",
    "imbalance.seed": 3,
    "supernet.sampling": "sandwich",
    "supernet.passes": "together",
    "adapt.passes": "together",
    "supernet.epochs": 0,
    "supernet.optimizer.lr": 1.0e-5,
    "supernet.optimizer.nesterov": False,
    "supernet.schedule.warmup": 0.0,
    "supernet.augment.crop": "pad",
    "supernet.augment.pad": 2,
    "supernet.augment.flip": True,
    "supernet.augment.policy": "randaugment",
    "supernet.mixing.name": "mixup",
    "supernet.label_smoothing": 0.1,
    "adapt.strategy": "finetune",
    "adapt.loss": "ce",
    "adapt.weighting.beta": 0.5,
    "adapt.head.epochs": 1,
    "adapt.finetune.optimizer.momentum": 0.5,
    "adapt.finetune.optimizer.decay_norms": True,
    "adapt.finetune.mixing.alpha": 0.2,
    "adapt.scratch.batch_size": 8,
    "adapt.scratch.augment.magnitude": 0,
    "adapt.scratch.mixing.kappa": 1.0,
    "search.method": "random",
    "search.max_macs": 10**12,
    "search.mutation": 1.0,
    "search.darts.order": "second",
    "search.darts.split": "redrawn",
    "search.darts.stability.divergence": 1.0e-4,
    "search.darts.stability.back": 2,
    "search.darts.zeroth.period": 4,
    "search.darts.zeroth.antithetic": True,
    "search.darts.temperature.factor": 0.5,
    "search.darts.architecture.loss": "balanced-softmax",
    "search.darts.share": 0.9,
    "search.darts.mixing": "symmetric",
    "search.darts.objective": "barlow-twins",
    "search.darts.edge_weights": True,
    "search.darts.architecture.schedule": "cumulative",
    "search.darts.architecture.sampler": "instance",
    "search.darts.collapse.skip": "linear",
    "search.darts.collapse.perturbation": "random",
    "search.darts.collapse.eigenvalue_rows": 64,
    "retrain.pretrain.epochs": 5,
    "search.calibration.sampling": "balanced",
    "retrain.rows": "train+validation",
    "retrain.weighting.reduction": "batch-mean",
    "retrain.references.random": 2,
    "retrain.references.largest": False,
    "retrain.augment.policy": "autoaugment-svhn",
    "retrain.augment.operations": 3,
    "retrain.augment.cutout": 2,
    "retrain.mixing.name": "remix",
    "retrain.mixing.tau": 1.0,
    "evaluate.shots": "oltr",
    "evaluate.thresholds.many": 50,
    "evaluate.thresholds.few": 0,
    "evaluate.confidence": 0.9,
    "study.axes": {"seed": [1, 2, 3]},
}
FREE = {"study.axes"}
"""Leaves that are mappings: their keys are the user's."""


@cache
def _default_json() -> str:
    return json.dumps(load(DEFAULT).tree())


def default_tree() -> dict[str, Any]:
    """Return the whole tree that params.yaml stands for, a new copy each time."""
    tree: dict[str, Any] = json.loads(_default_json())
    return tree


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of every leaf; a list is a leaf."""
    for key, value in tree.items():
        if isinstance(value, dict) and f"{prefix}{key}" not in FREE:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def altered(dotted: str, value: Any, tree: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a copy of a tree, by default params.yaml's, with one parameter set (or added)."""
    changed = copy.deepcopy(default_tree() if tree is None else tree)
    *path, name = dotted.split(".")
    inner = changed
    for key in path:
        inner = inner[key]
    inner[name] = value
    return changed


def written(file: Path) -> dict[str, Any]:
    """Return what a parameter file itself names."""
    tree: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return tree


def comments(file: Path) -> dict[str, str]:
    """Return the comment of each parameter in a YAML file: at the end of its line, else in the lines above it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found: dict[str, str] = {}

    def walk(node: yaml.MappingNode, prefix: str) -> None:
        for key, value in node.value:
            dotted = f"{prefix}{key.value}"
            number = key.start_mark.line
            if "  # " in lines[number]:
                found[dotted] = lines[number].split("  # ", 1)[1]
            else:
                above = []
                while number and lines[number - 1].strip().startswith("# "):
                    number -= 1
                    above.insert(0, lines[number].strip().removeprefix("# "))
                found[dotted] = " ".join(above)
            if isinstance(value, yaml.MappingNode):
                walk(value, f"{dotted}.")

    root = yaml.compose("\n".join(lines), Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    walk(root, "")
    return found
