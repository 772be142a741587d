"""Whether what is installed is what requirements.lock says: the file is a dependency, the packages do the work."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imbnas.errors import UserError

PACKAGES = (
    *("imagehash", "matplotlib", "numpy", "optuna", "pandas", "pillow", "pyarrow", "safetensors"),
    *("scikit-learn", "scipy", "torch", "torchvision"),
)
"""The packages whose code makes outputs."""


def installed() -> list[str]:
    """Return a line for each of the packages, with the version that is installed."""
    return [f"{name} (installed): {_version(name)}" for name in PACKAGES]


def check(lock: Path) -> None:
    """Raise UserError where another version is installed than `lock` says; builds of one version (+cpu) are alike."""
    locked: dict[str, set[str]] = {}
    for name, number in re.findall(r"^([a-z0-9-]+)==([^ \\;]+)", lock.read_text(encoding="utf-8"), re.MULTILINE):
        locked.setdefault(name, set()).add(number)
    for name in PACKAGES:
        found = _version(name)
        if name in locked and found.split("+")[0] not in locked[name]:
            raise UserError(f"{lock.name}: {name} {found} is installed, expected {min(locked[name])}; run `make setup`")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
