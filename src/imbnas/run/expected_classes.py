"""The number of the target's classes, as far as it is known before the step `target`."""

from __future__ import annotations

from pathlib import Path

from imbnas.data.stored import INFO
from imbnas.errors import UserError
from imbnas.files import read_json
from imbnas.params.target import TargetParams
from imbnas.run.graph import PATHS


def known_classes(target: TargetParams, root: Path) -> int | None:
    """Return how many classes the target has: of own images what `imbnas target` has found, None before that."""
    if target.classes is not None:
        return target.classes
    file = root / PATHS["target_train"] / INFO
    try:
        info = read_json(file, "what `imbnas target` writes")
        same = info["dataset"] == target.dataset and info.get("root") in (None, target.root)
        return len(info["classes"]) if same else None
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return None
