"""Image files, listed and checked before anything is computed with them, on threads (PIL decodes without the GIL)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from imbnas.data.links import check_link
from imbnas.errors import UserError, is_utf8
from imbnas.files import IMAGE_LIMIT, NotRegularError, open_regular

Result = TypeVar("Result")

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
"""What torchvision's ImageFolder reads."""
LONGEST = max(map(len, EXTENSIONS))
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")
KINDS = ".jpg, .jpeg, .png, .webp, .bmp, .ppm, .pgm, .tif or .tiff"
_PAGED = (".tif", ".tiff", ".webp")
_FOREIGN = ("@eaDir", "__MACOSX")
"""Directories of previews and the like that a Synology server and macOS's archives add to a tree of images."""
_CHUNK = 128
LISTED = 20
"""Bad images that are told of one by one."""
# PIL warns on standard error and then refuses, by a number of its own, which is not the user's.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class SizeLimit:
    """The most pixels of an image, and the parameter or option that says so."""

    pixels: int
    knob: str


class TooLargeError(ValueError):
    """An image has more pixels than are accepted; the message says neither its name nor its place."""

    def __init__(self, width: int, height: int, limit: SizeLimit) -> None:
        super().__init__(
            f"found {width} x {height} = {width * height:,} pixels, expected at most {limit.pixels:,} ({limit.knob})"
        )


def has_image_name(path: str) -> bool:
    """Return whether a file's name ends as an accepted image's does, in upper or lower case."""
    return path.lower().endswith(EXTENSIONS)


def entries(folder: Path, expected: str) -> list[tuple[str, bool]]:
    """Return the name of each file in `folder` that is not hidden, and whether it is a directory, sorted by name.

    Raises UserError naming what cannot be read, with what was `expected` of the folder, a link to a directory or to
    nothing, and a directory or an image whose name is not UTF-8, as which names go into the split's index and
    description.
    """
    found = []
    try:
        listed = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}, expected {expected}") from None
    for entry in listed:
        if entry.name.startswith(".") or entry.name in _FOREIGN:
            continue
        try:
            is_folder = entry.is_dir()
        # A link to itself is neither a file nor a directory.
        except OSError as error:
            raise UserError(f"{folder / entry.name}: {error.strerror}, expected an image or a directory") from None
        if entry.is_symlink():
            check_link(folder / entry.name)
        if (is_folder or has_image_name(entry.name)) and not is_utf8(entry.name):
            raise UserError(f"{folder / entry.name}: the name is not valid UTF-8, expected one that is")
        found.append((entry.name, is_folder))
    return found


def threads() -> int:
    """Return how many threads to use: the processors that this process may use, at least two."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(2, usable or 2)


def map_threaded(function: Callable[[str], Result], items: Sequence[str]) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, computed on `threads()` threads.

    When the caller stops early or an exception passes, the items not yet begun are dropped.
    """
    executor = ThreadPoolExecutor(threads())
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    try:
        for results in executor.map(lambda chunk: [function(item) for item in chunk], chunks):
            yield from results
    finally:
        executor.shutdown(cancel_futures=True)


def check_images(
    root: Path,
    paths: Sequence[str],
    full: bool,
    place: Callable[[int], str],
    size: SizeLimit | None = None,
    look: Callable[[Image.Image], bytes] | None = None,
) -> list[bytes]:
    """Check that every file is an image within the `size`: its header, and with `full` every pixel's decoding.

    `paths` are relative to `root`; `place(i)` returns the text that begins the message about file i. All files are
    looked at. Returns, with `full`, what `look` makes of each decoded image, else nothing. The UserError tells of the
    first bad one in order and how many there are; its details, of LISTED of them.
    """
    bad, listed = 0, []
    seen: list[bytes] = []
    for index, found in enumerate(map_threaded(lambda path: _inspect(root / path, full, size, look), paths)):
        if isinstance(found, str):
            bad += 1
            if bad <= LISTED:
                listed.append(f"{place(index)}: {found}")
        elif look is not None and full:
            seen.append(found)
    if bad == 1:
        raise UserError(listed[0])
    if bad:
        raise UserError(f"{listed[0]}; {bad:,} of {len(paths):,} images are bad, the log names {len(listed)}", listed)
    return seen


def check_links(root: Path, paths: Sequence[str], labels: Sequence[int], place: Callable[[int], str]) -> None:
    """Raise UserError for a file that is linked from places with different labels, symbolic and hard links alike."""
    first: dict[tuple[int, int], int] = {}
    for index, key in enumerate(map_threaded(lambda path: _inode(root / path), paths)):
        earlier = first.setdefault(key, index)
        if labels[earlier] != labels[index]:
            raise UserError(
                f"{place(index)}: a link to the same file as {place(earlier)}, whose label is another, expected one "
                "label per image"
            )


def _inode(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino


def count_paged(root: Path, paths: Sequence[str]) -> int:
    """Return how many of these images have several pages or frames, of which only the first is read."""

    def several(path: str) -> bool:
        with open_image(root / path) as image:
            return getattr(image, "n_frames", 1) > 1

    return sum(map_threaded(several, [path for path in paths if path.lower().endswith(_PAGED)]))


def fault_of(file: Path, full: bool, size: SizeLimit | None = None) -> str | None:
    """Return what is wrong with an image file in a few words, None when nothing is."""
    found = _inspect(file, full, size, None)
    return found if isinstance(found, str) else None


def _inspect(
    file: Path, full: bool, size: SizeLimit | None, look: Callable[[Image.Image], bytes] | None
) -> str | bytes:
    """Return what is wrong with an image file as text, else what `look` makes of it, or no bytes."""
    try:
        with open_image(file, size) as image:
            if image.mode == "F":
                return "pixels are floating-point numbers, expected 8 or 16 bits"
            if full:
                image.load()
                return look(image) if look is not None else b""
    except NotRegularError as error:
        return error.fault
    except TooLargeError as error:
        return str(error)
    except FileNotFoundError:
        hint = " (a backslash does not separate directories here, write /)" if "\\" in file.name else ""
        return f"image not found, expected a file there{hint}"
    except UnidentifiedImageError:
        return "not an image by its content, expected JPEG, PNG, WebP, BMP, PPM, PGM or TIFF"
    # On damaged files PIL raises OSError, SyntaxError, ValueError, struct.error, and its own bomb error.
    except Exception as error:
        return unreadable(error)
    return b""


@contextmanager
def open_image(file: Path, size: SizeLimit | None = None) -> Iterator[Image.Image]:
    """Open an image of the accepted formats, of which only the header is read.

    Raises NotRegularError for a pipe or the like, TooLargeError for more pixels than `size` allows, and whatever PIL
    raises.
    """
    with open_regular(file, IMAGE_LIMIT) as stream, Image.open(stream, formats=FORMATS) as image:
        if size is not None and image.width * image.height > size.pixels:
            raise TooLargeError(image.width, image.height, size)
        yield image


def unreadable(error: Exception) -> str:
    """Return one line for whatever PIL raised on a damaged image file, or on another file."""
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        # Not the file's name once more, which may be long.
        reason = error.strerror
    if isinstance(error, UnidentifiedImageError):
        # PIL's own words name an opened stream.
        reason = "not one by its content"
    return f"cannot be read as an image ({reason}), expected a complete JPEG, PNG, WebP, BMP, PPM, PGM or TIFF"
