"""The parameters that DVC needs in params.yaml: it knows no defaults, and fails on a missing name of dvc.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imbnas.params.reading import read

STAGES = "dvc.yaml"


def missing(file: Path) -> list[str]:
    """Return the parameters that the dvc.yaml beside a parameter file names and the file does not."""
    stages = file.parent / STAGES
    if not stages.is_file():
        return []
    found, tree = read(stages), read(file)
    named = {name for stage in found["stages"].values() for name in stage.get("params", []) if isinstance(name, str)}
    return sorted(name for name in named if not _has(tree, name))


def _has(tree: Any, name: str) -> bool:
    for part in name.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True
