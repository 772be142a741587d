"""The image files that a user means: files, directories, patterns, lists of paths, and standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from imbnas.data.verify import has_image_name
from imbnas.errors import UserError
from imbnas.files import LIST_LIMIT, read_regular

STANDARD_INPUT = "-"


def image_files(given: Sequence[str], lists: Sequence[Path] = ()) -> tuple[list[Path], list[UserError]]:
    """Return the image files that these words and lists name, in their order, and what is wrong with some of them.

    A directory stands for all images at or below it, hidden ones excepted, sorted by path; a pattern for the images
    that it matches, with `**` for any directories; `-` for the paths on standard input. A list holds a path per line,
    or paths that end in NUL; blank lines are passed over. A path that is none of these is taken as it is. Raises
    UserError for a list that cannot be read.
    """
    found: list[Path] = []
    faults: list[UserError] = []
    for word in given:
        if word == STANDARD_INPUT:
            found += _paths(sys.stdin.buffer.read())
        elif os.path.isdir(word):  # noqa: PTH112 - Path.is_dir raises for names that no file can have
            found += _images_below(word, faults.append)
        elif glob.has_magic(word) and not os.path.lexists(word):
            found += _matching(word, faults.append)
        else:
            found.append(Path(word))
    for file in lists:
        if str(file) == STANDARD_INPUT:
            found += _paths(sys.stdin.buffer.read())
            continue
        try:
            found += _paths(read_regular(file, LIST_LIMIT))
        except OSError as error:
            raise UserError(f"{file}: {error.strerror}, expected a list of image files, a path per line") from None
    return found, faults


def _paths(content: bytes) -> Iterator[Path]:
    separator = b"\0" if b"\0" in content else b"\n"
    for line in content.split(separator):
        if separator == b"\n":
            line = line.removesuffix(b"\r")
        if line.strip():
            yield Path(os.fsdecode(line))


def _images_below(folder: str, tell: Callable[[UserError], None]) -> list[Path]:
    def failed(error: OSError) -> None:
        tell(UserError(f"{error.filename}: {error.strerror}, expected a directory that can be read"))

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if has_image_name(name) and not name.startswith(".")]
    if not found:
        tell(UserError(f"{folder}: holds no image, expected some in it or below it"))
    return sorted(found)


def _matching(pattern: str, tell: Callable[[UserError], None]) -> list[Path]:
    # Path.glob takes no absolute pattern.
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207
    found = sorted(Path(name) for name in names if has_image_name(name))
    if not found:
        tell(UserError(f"{pattern}: matches no image, expected some"))
    return found
