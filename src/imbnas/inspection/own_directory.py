"""The parameters with which a directory of images is looked at when no parameter file speaks of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from imbnas.data.verify import entries
from imbnas.errors import UserError
from imbnas.params import presets
from imbnas.params.config import Params, parse

PRESET = "own-64"
_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""Names under which directories of splits are published."""


def own_params(images: Path) -> Params:
    """Return the preset's parameters for a directory of class directories, or of splits of them, or a .npz file."""
    if not images.exists():
        raise UserError(f"{images}: not found, expected a directory with one directory per class, or a .npz file")
    tree: dict[str, Any] = presets.params(PRESET).tree()
    kind = "npz" if images.is_file() else "folder"
    splits = _splits(images) if kind == "folder" else {}
    for section in ("source", "target"):
        place = {"dataset": kind, "root": os.path.normpath(images)}
        own = splits if section == "target" else {"train": splits.get("train")}
        tree[section] = {**tree[section], **place, "splits": {**tree[section]["splits"], **own}}
    if "validation" in splits:
        tree["target"]["validation"]["from"] = "published"
    return parse(tree, str(images))


def _splits(images: Path) -> dict[str, str]:
    """Return the directories of splits by the split that each is, none where they are classes."""
    names = [name for name, is_folder in entries(images, "a directory with one directory per class") if is_folder]
    found = {_NAMES[name.lower()]: name for name in names if name.lower() in _NAMES}
    return found if "train" in found and len(found) == len(names) else {}
