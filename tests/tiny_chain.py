"""A tiny run of the chain on digits, step by step in this process, for the tests of the training steps."""

from __future__ import annotations

import hashlib
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

from imbnas.params.config import parse
from imbnas.run.graph import PATHS, STEPS
from imbnas.run.runner import run_step

AUGMENT = {"crop": "auto", "pad": "auto", "flip": "auto", "cutout": 0}
PARAMS: dict[str, Any] = {
    "seed": 0,
    "space": {
        "name": "shufflenet",
        "stem": {"channels": 8, "stride": 1},
        "stages": {"channels": [8, 16], "repeats": [1, 2], "strides": [1, 2]},
        "last_channels": 16,
    },
    "runtime": {"device": "cpu", "threads": 1, "workers": 0},
    "source": {"share": 0.3},
    "target": {},
    "imbalance": {"ratio": 20.0},
    "supernet": {"epochs": 8, "probe_paths": 2},
    "adapt": {
        "head": {"epochs": 4},
        "finetune": {"epochs": 1},
        "scratch": {"epochs": 1},
        "weighting": {"defer": 0.5},
    },
    "search": {"method": "random", "candidates": 6, "calibration": {"rows": 64}},
    "retrain": {"epochs": 3, "batch_size": 32, "references": {"random": 2}},
    "evaluate": {"resamples": 50},
}

CELLS: dict[str, Any] = {
    "space": {
        "name": "nasbench201",
        "stem": {"channels": 4, "stride": 1},
        "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
        "last_channels": None,
    },
    "supernet__epochs": 0,
    "adapt__strategy": "scratch",
    "adapt__scratch": {"epochs": 0},
    "search__method": "darts",
    "search__calibration": {"rows": 64},
    "retrain__references": False,
}
"""Changes to PARAMS: a differentiable search in a space of cells, whose steps before it train nothing."""


def changed(**dotted: Any) -> dict[str, Any]:
    """Return PARAMS with leaves replaced; `adapt__strategy="none"` stands for adapt.strategy."""
    tree = deepcopy(PARAMS)
    for name, value in dotted.items():
        *sections, leaf = name.split("__")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return tree


def run(root: Path, *steps: str, **dotted: Any) -> int:
    """Run steps in `root` until one fails and return its exit code."""
    params = parse(changed(**dotted), "params.yaml")
    for step in steps:
        code = run_step(step, params, root, log_file=root / "logs" / f"{step}.log")
        if code:
            return code
    return 0


def copy(project: Path, root: Path) -> Path:
    """Copy a project to `root` and return that."""
    shutil.copytree(project, root, dirs_exist_ok=True)
    return root


def digests(root: Path, *steps: str) -> dict[str, str]:
    """Return the SHA-256 of every output file of the steps (default: all)."""
    found: dict[str, str] = {}
    for step in steps or STEPS:
        for name in STEPS[step].outputs:
            path = root / PATHS[name]
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files:
                if file.is_file():
                    key = file.relative_to(root).as_posix()
                    found[key] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
