"""What a dataset is before anything is chosen from it: labels, class names, and images in memory or as files."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Shape:
    """Height and width in pixels and number of channels (1 grey, 3 colour) of an image."""

    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class Raw:
    """One raw split: N labelled images, either an array or files.

    `labels` is int64 (N,) with values in 0..len(classes)-1. Exactly one of `images` (uint8, (N, H, W, C)) and `paths`
    (N names relative to `root`, with forward slashes) is not None. `digests` are the SHA-256 of the files at `paths`,
    once they have been read. `pixels` holds, where they were wanted and `paths` are given, the digests of the decoded
    images (`contents.DIGESTS`, (N,)).
    """

    labels: np.ndarray
    classes: list[str]
    images: np.ndarray | None
    paths: list[str] | None
    root: Path
    digests: list[str] | None = None
    pixels: np.ndarray | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A dataset's published splits; `photographs` says whether a mirrored image is still a valid one.

    `notes` are lines for the log about what was passed over.
    """

    train: Raw
    validation: Raw | None
    test: Raw | None
    photographs: bool
    notes: tuple[str, ...] = ()


def relative_path(text: str) -> str:
    """Return a path in its shortest form with forward slashes; raise ValueError with the reason if it leaves its root.

    The check is lexical: a symbolic link inside the root may lead elsewhere, since whoever made the tree chose it.
    """
    if text.startswith("/"):
        raise ValueError("an absolute path, expected one relative to the root")
    if ".." in text.split("/"):
        raise ValueError("contains '..', expected a path that stays below the root")
    if "\0" in text:
        raise ValueError("contains a NUL character, expected a file name")
    short = posixpath.normpath(text)
    if short == ".":
        raise ValueError("names the root itself, expected a path below it")
    return short
