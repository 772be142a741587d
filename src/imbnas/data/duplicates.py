"""Finding images with identical bytes, so that a split never separates them.

The rule (see `splits`): rows are drawn among first occurrences only, and a copy goes where its first occurrence goes if
that is the training split, and is left out otherwise. No image of a drawn validation or test split is then among the
training rows, nor one of the source's in the target. A split that is published is taken as it is published.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from imbnas.data.raw import Raw
from imbnas.data.verify import map_threaded
from imbnas.files import IMAGE_LIMIT, open_regular

_TAIL = 4096


def first_occurrence(raw: Raw) -> np.ndarray:
    """Return, for each of N rows, the first row with the same bytes: int64 (N,), the row itself when it is the first.

    Array images compare by their pixels, files by their content.
    """
    keys: Sequence[Hashable]
    if raw.images is not None:
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in raw.images]
    else:
        keys = _file_keys(raw.root, raw.paths or [])
    first: dict[Hashable, int] = {}
    return np.fromiter((first.setdefault(key, row) for row, key in enumerate(keys)), np.int64, len(keys))


def _file_keys(root: Path, paths: Sequence[str]) -> list[Hashable]:
    """Return keys that are equal exactly for files of equal content.

    Whole files are read only where size and last bytes agree, which is rare among photographs: the pass costs little
    more than opening each file.
    """
    keys: list[Hashable] = list(map_threaded(lambda path: _tail(root / path), paths))
    count = Counter(keys)
    same = [row for row, key in enumerate(keys) if count[key] > 1]
    contents = map_threaded(lambda path: _content(root / path), [paths[row] for row in same])
    for row, content in zip(same, contents, strict=True):
        keys[row] = content
    return keys


def _tail(file: Path) -> tuple[int, bytes]:
    with open_regular(file, IMAGE_LIMIT) as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _TAIL))
        return size, hashlib.blake2b(stream.read(), digest_size=16).digest()


def _content(file: Path) -> bytes:
    with open_regular(file, IMAGE_LIMIT) as stream:
        return hashlib.file_digest(stream, "sha256").digest()
