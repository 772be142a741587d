"""Comparing what steps have written, by content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from imbnas.files import digest_file


def digest_tree(path: Path) -> str:
    """Return a SHA-256 over the names and contents of a file, or of all files below a directory."""
    if path.is_file():
        return digest_file(path)
    state = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        state.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file)}\n".encode())
    return state.hexdigest()
