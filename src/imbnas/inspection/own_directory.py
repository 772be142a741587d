"""The parameters with which a directory of images is looked at when no parameter file speaks of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from imbnas.data.indexes import TABLES, read_index
from imbnas.data.verify import entries, has_image_name
from imbnas.errors import UserError
from imbnas.params import presets
from imbnas.params.config import Params, parse

PRESET = "own-64"
INDEXES = (*TABLES, ".json", ".txt")
"""Suffixes of files that are read as lists of images."""
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
    """Return the preset's parameters for a directory of classes, or of splits of them, a .npz file or an index.

    Raises UserError for anything else.
    """
    kind = _kind(images)
    place: dict[str, Any] = {"dataset": kind, "root": os.path.normpath(images)}
    splits: dict[str, str] = {}
    if kind == "list":
        place["root"], splits = os.path.normpath(images.parent), {"train": images.name}
    elif kind == "folder":
        splits = _splits(images)
    tree: dict[str, Any] = presets.params(PRESET).tree()
    for section in ("source", "target"):
        own = splits if section == "target" else {"train": splits.get("train")}
        tree[section] = {**tree[section], **place, "splits": {**tree[section]["splits"], **own}}
    if "validation" in splits or (kind == "list" and _judges(images)):
        tree["target"]["validation"]["from"] = "published"
    return parse(tree, str(images))


def _kind(images: Path) -> str:
    """Return as which dataset the images are read."""
    expected = f"expected a directory with one directory per class, a .npz file, or an index ({', '.join(INDEXES)})"
    if images.is_dir():
        return "folder"
    if not images.exists():
        raise UserError(f"{images}: not found, {expected}")
    if not images.is_file():
        raise UserError(f"{images}: neither a directory nor a file, {expected}")
    suffix = images.suffix.lower()
    if suffix == ".npz":
        return "npz"
    if suffix in INDEXES:
        return "list"
    raise UserError(f"{images}: {'one image' if has_image_name(images.name) else 'another file'}, {expected}")


def _judges(index: Path) -> bool:
    """Return whether an index has validation rows."""
    splits = read_index(index).splits
    return splits is not None and bool((splits == "validation").any())


def _splits(images: Path) -> dict[str, str]:
    """Return the directories of splits by the split that each is, none where they are classes."""
    names = [name for name, is_folder in entries(images, "a directory with one directory per class") if is_folder]
    found = {_NAMES[name.lower()]: name for name in names if name.lower() in _NAMES}
    return found if "train" in found and len(found) == len(names) else {}
