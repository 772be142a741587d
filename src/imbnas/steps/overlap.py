"""The images that target and source share, found by content, whatever their root, kind or name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imbnas.data.contents import PIXELS, read_contents
from imbnas.data.raw import Raw
from imbnas.run.context import Context

SOURCE = ("source_train", "source_validation")


@dataclass(frozen=True)
class Known:
    """Digests of the source's images: of their content, and for files, where noted, of the decoded pixels.

    `files` says whether they are files.
    """

    files: bool
    contents: np.ndarray
    pixels: np.ndarray | None

    @property
    def empty(self) -> bool:
        """Whether the source has no image: its supernet comes from another project."""
        return not len(self.contents)


def source_contents(context: Context, files: bool) -> Known:
    """Read what the step `source` has noted of its images; UserError names a foreign or damaged index."""
    found = [read_contents(context.path(name)) for name in SOURCE]
    pixels = [read_contents(context.path(name), PIXELS) for name in SOURCE] if files else [None]
    noted = [part for part in pixels if part is not None]
    return Known(
        files,
        np.concatenate([part for part in found if part is not None]),
        np.concatenate(noted) if len(noted) == len(pixels) else None,
    )


def incomparable(known: Known, raw: Raw) -> str | None:
    """Return what has to be set to compare the target's images in `raw` with the source's, None where nothing has.

    An array and files are compared by their pixels, and files are decoded under `verify: full` alone.
    """
    if known.empty:
        return None
    files = raw.paths is not None
    pixels = raw.pixels if files else known.pixels
    return f"{'target' if files else 'source'}.verify" if files != known.files and pixels is None else None


def same_as(known: Known, raw: Raw, digests: np.ndarray) -> np.ndarray:
    """Return for each row of a raw split, whose contents' `digests` are given, whether the source has its image.

    Where they cannot be compared the answer is no.
    """
    ours: np.ndarray | None = digests
    theirs: np.ndarray | None = known.contents
    if raw.paths is not None and not known.files:
        ours = raw.pixels
    if raw.paths is None and known.files:
        theirs = known.pixels
    if ours is None or theirs is None:
        return np.zeros(len(raw), dtype=bool)
    found: np.ndarray = np.isin(ours, theirs)
    return found
