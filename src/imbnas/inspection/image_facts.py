"""Facts about image files, looked up in several processes: size, mode, format, content, and what is odd about each."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image

from imbnas.data.verify import FORMATS, fault_of, open_image, threads
from imbnas.files import digest_file, open_regular

Chunk = TypeVar("Chunk")

WHOLE = 1 << 18
"""Bytes up to which a file is read at once, and its content hashed."""
DECODED = 1 << 15
"""Pixels up to which an image is decoded in full: it takes no longer than to open it."""
_CHUNK = 500
ALONE = 2 * _CHUNK
"""Files up to which starting further processes would take longer than looking at all of them."""
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 4096
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm"),
    "TIFF": (".tif", ".tiff"),
}


class ImageFacts(NamedTuple):
    """One file: `digest` is b"" where no other file has its size, `fault` is "" where it can be read as an image."""

    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    nbytes: int = 0
    digest: bytes = b""
    fault: str = ""
    plain: bool = False
    """All pixels have one colour; known of images that were decoded."""


def misnamed(path: str, facts: ImageFacts) -> bool:
    """Return whether a file's name promises another format than its content has."""
    return bool(facts.format) and not path.lower().endswith(_SUFFIXES[facts.format])


def look_at(root: Path, paths: Sequence[str]) -> list[ImageFacts]:
    """Return the facts about each file, in the order of `paths`, which are relative to `root`.

    Headers are read; small files are read and small images decoded in full, and so are images without the mark of
    their format's end. Two files of one size are compared by their content.
    """
    found = [facts for chunk in _in_parallel(partial(_look_at_each, str(root)), paths) for facts in chunk]
    sizes = Counter(facts.nbytes for facts in found if not facts.fault)
    late = [row for row, facts in enumerate(found) if not facts.fault and not facts.digest and sizes[facts.nbytes] > 1]
    digests = (
        digest
        for chunk in _in_parallel(partial(_digest_each, str(root)), [paths[row] for row in late])
        for digest in chunk
    )
    for row, digest in zip(late, digests, strict=True):
        found[row] = found[row]._replace(digest=digest)
    return found


def first_occurrences(facts: Sequence[ImageFacts]) -> list[int]:
    """Return for each file the first one with the same content: its own place where it is the first."""
    first: dict[bytes, int] = {}
    return [first.setdefault(each.digest, row) if each.digest else row for row, each in enumerate(facts)]


def _in_parallel(look: Callable[[Sequence[str]], Chunk], paths: Sequence[str]) -> Iterator[Chunk]:
    """Yield `look(chunk)` of successive chunks of paths."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    if len(paths) <= ALONE:
        yield from map(look, chunks)
        return
    # A fork would copy the threads' locks of whoever imported torch before.
    with ProcessPoolExecutor(min(threads(), len(chunks)), get_context("spawn")) as executor:
        yield from executor.map(look, chunks)


def _look_at_each(root: str, paths: Sequence[str]) -> list[ImageFacts]:
    return [_look(Path(root) / path) for path in paths]


def _digest_each(root: str, paths: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(digest_file(Path(root) / path)) for path in paths]


def _look(file: Path) -> ImageFacts:
    try:
        with open_regular(file) as stream:
            nbytes = os.fstat(stream.fileno()).st_size
            content = stream.read() if nbytes <= WHOLE else b""
            end = content[-_TAIL:]
            if not content and nbytes:
                stream.seek(max(0, nbytes - _TAIL))
                end = stream.read()
        if content:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return _facts(file, image, nbytes, hashlib.sha256(content).digest(), end)
        with open_image(file) as image:
            return _facts(file, image, nbytes, b"", end)
    # Whatever PIL raises on a damaged file; the fault is told in the words of the check that a step makes.
    except Exception:
        return ImageFacts(fault=fault_of(file, full=True) or "cannot be read as an image")


def _facts(file: Path, image: Image.Image, nbytes: int, digest: bytes, end: bytes) -> ImageFacts:
    fault, plain = "", False
    # PIL's name for a JPEG of several pictures, as phones write it.
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    mark = _ENDS.get(kind)
    if image.mode == "F":
        fault = fault_of(file, full=False) or ""
    elif image.width * image.height <= DECODED:
        image.load()
        plain = _is_plain(image)
    elif mark is not None and mark not in end:
        fault = fault_of(file, full=True) or ""
    return ImageFacts(image.width, image.height, image.mode, kind, nbytes, digest, fault, plain)


def _is_plain(image: Image.Image) -> bool:
    ranges = image.getextrema()
    pairs = [ranges] if isinstance(ranges[0], int | float) else ranges
    return all(low == high for low, high in pairs)
