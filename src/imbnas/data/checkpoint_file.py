"""Checkpoints of torch that others have published, in place of a supernet: what is known of them without reading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from imbnas.files import open_regular

_MAGIC = (b"PK\x03\x04", b"\x80\x02\x8a\n")
"""The first bytes of torch's zip files, and of those from before torch 1.6; no header of safetensors is as long."""
DATASET = "imagenet"
PIXELS: dict[str, Any] = {
    "shape": [224, 224, 3],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "load_side": 224,
    "photographs": True,
}
"""The images on which published ImageNet classifiers were trained."""
CLASSES = 1000


def torch_cache() -> Path:
    """Return where torch keeps the checkpoints that a user has downloaded through it."""
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{home}/torch")).expanduser() / "hub" / "checkpoints"


def is_checkpoint(path: Path) -> bool:
    """Return whether a file begins as torch's checkpoints do; False for one that cannot be opened."""
    try:
        with open_regular(path) as stream:
            return stream.read(4) in _MAGIC
    except OSError:
        return False


def imagenet_classes() -> list[str]:
    """Return ImageNet's 1,000 class names in the order of published classifiers.

    Four names stand for two classes each there; the second of them gets a number.
    """
    # It takes seconds to import, and only a published checkpoint needs it.
    from torchvision.models import get_weight

    found: list[str] = []
    for name in get_weight("MobileNet_V3_Large_Weights.IMAGENET1K_V2").meta["categories"]:
        found.append(name if name not in found else f"{name} (2)")
    return found


def checkpoint_meta() -> dict[str, Any]:
    """Return the metadata of a published checkpoint, but for its space, as those of a supernet tell them.

    How it was trained is not known: the file does not say.
    """
    return {
        "kind": "supernet",
        "step": "supernet",
        "recipe": {"epochs": None},
        "digests": {},
        "dataset": DATASET,
        "classes": imagenet_classes(),
        **PIXELS,
    }
