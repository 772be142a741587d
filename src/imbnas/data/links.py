"""Symbolic links among raw files: those that the reader and DVC would see differently are refused.

DVC follows a link to a file, whose content it hashes and stores, and a dataset's root may be a link. It does not look
into a linked directory below the root: a class that is one would be neither versioned nor watched.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from imbnas.errors import UserError


def refuse_linked(root: Path, folders: Iterable[str]) -> None:
    """Raise UserError for the first link on the ways from `root`, which may be one, down to `folders` below it."""
    for where in sorted({place for folder in folders for place in (folder, *map(str, PurePosixPath(folder).parents))}):
        if where not in ("", ".") and (root / where).is_symlink():
            check_link(root / where)


def check_link(path: Path) -> None:
    """Raise UserError unless the link `path` leads to a file."""
    if path.is_dir():
        raise UserError(
            f"{path}: a link to a directory, expected a directory: DVC does not look into what is linked "
            "(`cp -rs` makes a tree of links to files, which count)"
        )
    if not path.exists():
        raise UserError(f"{path}: a link to {path.readlink()}, which is not there, expected a file or a directory")
