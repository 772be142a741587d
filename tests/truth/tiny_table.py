"""A truth table of tiny cells on digits, and rows of invented ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from imbnas.params.section import merged
from imbnas.params.truth import TruthParams
from imbnas.truth.trained_rows import Row

CELLS = ["3-1-4-2-4-4", "1-2-3-1-4-2", "2-0-0-1-4-0"]
SPEC: dict[str, Any] = {
    "space": {
        "name": "nasbench201",
        "stem": {"channels": 4},
        "stages": {"channels": [4], "repeats": [1], "strides": [1]},
        "last_channels": None,
    },
    "runtime": {"device": "cpu", "threads": 1, "state_interval": 0.0},
    "source": {"share": 0.3},
    "conditions": {"balanced": {"ratio": 1.0, "n_max": 12}, "longtail": {"ratio": 4.0, "n_max": 24}},
    "seeds": 2,
    "retrain": {"loss": "ce", "epochs": 2, "batch_size": 32},
    "evaluate": {"shots": "thirds"},
    "cells": CELLS,
}


def write_spec(root: Path, **changes: Any) -> Path:
    """Write the description, with some of its parts changed, below a project's directory, and return the file."""
    import yaml

    file = root / "tables" / "tiny.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    (root / "datasets/digits").mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(merged(TruthParams, SPEC, changes), sort_keys=False))
    return file


def invented(seeds: int = 2, noise: float = 0.01, cells: int = 12) -> list[Row]:
    """Return rows of cells whose balanced and long-tailed scores rank them alike, up to noise."""
    rng = np.random.default_rng(0)
    true = rng.normal(0.5, 0.05, size=cells)
    rows = []
    for seed in range(seeds):
        for place in range(cells):
            for condition, shift in (("balanced", 0.1), ("longtail", 0.0)):
                score = float(true[place] + shift + noise * rng.normal())
                rows.append(row(seed, f"{place // 5}-{place % 5}-3-3-3-3", condition, score, 1000 + place))
    return rows


def row(seed: int, cell: str, condition: str, score: float, macs: int = 1000) -> Row:
    """Return one row."""
    return {
        "seed": seed,
        "architecture": cell,
        "condition": condition,
        "space": "nasbench201",
        "validation": score,
        "test": score,
        "many": score,
        "medium": score,
        "few": None,
        "adjusted_validation": score,
        "adjusted_test": score,
        "loss": 1.0,
        "macs": macs,
        "params": macs // 2,
        "device": "cpu",
        "precision": "fp32",
        "train_rows": condition,
        "validation_rows": "v",
        "test_rows": "t",
        "recipe": "r",
        "code": "c",
        "torch": "2",
    }
