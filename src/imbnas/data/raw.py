"""Raw datasets: labels, class names, and images in memory or as files, before any split."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

LARGEST_EXACT = 96
"""Pixels up to which a margin for crops would cost more of the picture than it gives."""


@dataclass(frozen=True)
class Shape:
    """Height and width in pixels and number of channels (1 grey, 3 colour) of an image."""

    height: int
    width: int
    channels: int


Resize = Literal["cover", "exact", "pad"]
"""How a picture becomes a square: `cover` brings its short side to 8/7 of the size and leaves the margin to crops,
`exact` brings its short side to the size, `pad` its long side, with black beside it."""


def resize_rule(name: Resize | Literal["auto"], side: int) -> Resize:
    """Return the rule that `auto` means for a network's input of `side` pixels: `exact` up to 96, else `cover`."""
    if name != "auto":
        return name
    return "exact" if side <= LARGEST_EXACT else "cover"


@dataclass(frozen=True)
class Reading:
    """The way from image files to arrays (side, side, channels).

    `load_side` is the side in pixels that is read. With `pad`, the whole picture is kept, with black beside it, instead
    of its central square. With `upright`, rotations that EXIF asks for are applied.
    """

    load_side: int
    channels: int
    pad: bool = False
    upright: bool = True


@dataclass(frozen=True)
class Raw:
    """One raw split: N labelled images, either an array or files.

    `labels` is int64 (N,) with values in 0..len(classes)-1. Exactly one of `images` (uint8, (N, H, W, C)) and `paths`
    (N names relative to `root`, with forward slashes) is not None. `digests` are the SHA-256 of the files at `paths`,
    once they have been read. `groups` are the names of the rows' groups, which no split parts. `pixels` holds, where
    they were wanted and `paths` are given, the digests of the decoded images (`contents.DIGESTS`, (N,)), and `hashes`
    likewise their perceptual hashes (`near_duplicates`, uint64 (N, WORDS)).
    """

    labels: np.ndarray
    classes: list[str]
    images: np.ndarray | None
    paths: list[str] | None
    root: Path
    digests: list[str] | None = None
    groups: list[str] | None = None
    pixels: np.ndarray | None = None
    hashes: np.ndarray | None = None

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
