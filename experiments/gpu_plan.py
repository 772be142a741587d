"""The trainings of `make gpu`: the truth table on the GPU, and the literature's presets; at tiny size, stand-ins."""

from __future__ import annotations

import copy
from typing import Any

from gpu_setting import ROOT

from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.params.reading import read

Tree = dict[str, Any]
TABLE = "cifar10-lt-16"
LITERATURE = "literature/cifar10-lt-"
PRECISION = "bf16"
"""Of the literature's presets on a GPU; docs/results/gpu.md compares with it."""
TINY_TABLE: Tree = {
    "source": {"dataset": "digits", "root": "datasets/digits", "share": 0.3},
    "target": {"dataset": "digits", "root": "datasets/digits", "validation": {"per_class": 4}},
    "conditions": {"balanced": {"ratio": 1.0, "n_max": 8}, "longtail": {"ratio": 4.0, "n_max": 16}},
    "seeds": 1,
}
TINY_PRESETS = ("crt", "ce")


def table(device: str, data: str | None = None) -> tuple[str, Tree]:
    """Return the name and the description of the table whose rows are trained; `data` replaces the data's root.

    Another device is another table: rows of several are never compared.
    """
    tree = read(ROOT / "tables" / f"{TABLE}.yaml")
    tree["runtime"]["device"] = device
    if device == "cuda":
        # The further cells too, which docs/decisions/0035 asks for where 48 do not suffice.
        more = read(ROOT / "tables" / f"{TABLE}-more.yaml")
        tree |= {name: f"{tree[name]} {more[name]}" for name in ("about", "drawn")}
        tree["cells"] += more["cells"]
        return f"{TABLE}-cuda", tree
    tree |= copy.deepcopy(TINY_TABLE)
    tree["cells"] = tree["cells"][:2]
    tree["space"] |= {"stem": {"channels": 4}, "stages": {**tree["space"]["stages"], "channels": [4, 8, 16]}}
    tree["retrain"] |= {"epochs": 1, "batch_size": 32}
    return f"{TABLE}-rehearsal", tree


def literature(device: str) -> dict[str, Params]:
    """Return the parameters of the literature's presets of CIFAR-10-LT by name, those with least work first."""
    found = {}
    for name in presets.names():
        short = name.removeprefix(LITERATURE)
        if short == name or (device == "cpu" and short not in TINY_PRESETS):
            continue
        tree = presets.params(name).tree()
        tree["runtime"] |= {"device": device, "precision": PRECISION if device == "cuda" else "fp32"}
        if device == "cpu":
            _shrink(tree)
        found[short] = parse(tree, f"preset {name}")
    return dict(sorted(found.items(), key=lambda item: (_work(item[1]), item[0])))


def _shrink(tree: Tree) -> None:
    """Let a preset train next to nothing, on digits."""
    tree["runtime"]["threads"] = 1
    tree["target"] |= {"dataset": "digits", "root": "datasets/digits", "download": False}
    tree["imbalance"]["ratio"] = 10.0
    tree["space"]["stem"]["channels"] = 4
    tree["space"]["stages"] |= {"channels": [4, 4, 8], "repeats": [1, 1, 1]}
    tree["retrain"]["epochs"] = 2
    tree["retrain"]["head"]["epochs"] = 1
    tree["evaluate"]["resamples"] = 20


def _work(params: Params) -> int:
    """Return the passes over the rows that a preset's trainings make."""
    retrain = params.retrain
    passes = retrain.epochs * (2 if retrain.branches == "bilateral" else 1)
    return passes + (retrain.head.epochs if retrain.head.name != "none" else 0)
