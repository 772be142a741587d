"""Near-duplicates: images that look alike although their bytes differ, named where they lie in different splits.

Each image has a perceptual hash of 256 bits (ImageHash's `phash`: signs of the low frequencies of its grey picture).
Copies that were saved again, resized or brightened differ in few bits, different images in about half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from imbnas.csv_text import csv_text
from imbnas.data.decode import eight_bit
from imbnas.data.raw import Raw
from imbnas.files import write_bytes

REPORT = "near_duplicates.csv"
"""The report beside a test split."""
BITS = 256
WORDS = BITS // 64
LISTED = 10_000
"""Pairs of a report, the most alike ones first."""
_SIDE = 16
_CHUNK = 1 << 22
"""Pairs compared at once."""


@dataclass(frozen=True)
class Pairs:
    """The most alike pairs as rows (bits, split, row, other split, other row), splits as places in `names`.

    `count` is the number of all pairs, `near` how many rows of the last split are in one.
    """

    names: list[str]
    rows: np.ndarray
    count: int
    near: int


def perceptual_hash(image: Image.Image) -> bytes:
    """Return the hash of an opened image."""
    # Only the step that compares images pays for the import.
    import imagehash

    return np.packbits(imagehash.phash(eight_bit(image, 1), hash_size=_SIDE).hash).tobytes()


def as_words(hashes: list[bytes]) -> np.ndarray:
    """Return hashes as uint64 (N, WORDS)."""
    return np.frombuffer(b"".join(hashes), dtype=np.uint64).reshape(-1, WORDS)


def hashes_of(raw: Raw) -> np.ndarray | None:
    """Return the hash of each image of a raw split: uint64 (N, WORDS); None of files that were not decoded."""
    if raw.images is None:
        return raw.hashes
    flat = (image[..., 0] if image.shape[2] == 1 else image for image in raw.images)
    return as_words([perceptual_hash(Image.fromarray(image)) for image in flat])


def pairs_across(splits: Mapping[str, np.ndarray], bits: int) -> Pairs:
    """Return pairs of rows of different splits whose hashes differ in at most `bits` bits; `splits` hold (N, WORDS)."""
    names = list(splits)
    near = np.zeros(len(splits[names[-1]]), dtype=bool)
    found, count = np.zeros((0, 5), dtype=np.int64), 0
    for one, other in combinations(range(len(names)), 2):
        for differing, left, right in _close(splits[names[one]], splits[names[other]], bits):
            places = np.full_like(left, one), np.full_like(left, other)
            rows = np.stack([differing, places[0], left, places[1], right], axis=1)
            found, count = np.concatenate([found, rows]), count + len(rows)
            if other == len(names) - 1:
                near[right] = True
            if len(found) > 10 * LISTED:
                found = _closest(found)
    return Pairs(names, _closest(found), count, int(near.sum()))


def _close(one: np.ndarray, other: np.ndarray, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield differing bits, rows of `one` and rows of `other` of close pairs, some at a time."""
    at_once = max(1, _CHUNK // max(1, len(other)))
    for start in range(0, len(one) if len(other) else 0, at_once):
        part = one[start : start + at_once]
        # The first word leaves few pairs to be compared in full.
        left, right = np.nonzero(np.bitwise_count(part[:, None, 0] ^ other[None, :, 0]) <= bits)
        differing = np.bitwise_count(part[left] ^ other[right]).sum(axis=1, dtype=np.int64)
        close = differing <= bits
        yield differing[close], left[close] + start, right[close]


def _closest(rows: np.ndarray) -> np.ndarray:
    """Return the LISTED most alike pairs, in an order that is theirs alone."""
    return rows[np.lexsort(rows.T[::-1])][:LISTED]


def describe(pairs: Pairs, place: Callable[[str, int], str], bits: int) -> str:
    """Return the line that tells of pairs and names the most alike one; `place` names a row of a split."""
    differing, one, row, other, other_row = pairs.rows[0].tolist()
    first, second = (pairs.names[one], row), (pairs.names[other], other_row)
    return (
        f"warning: {pairs.count:,} pair{'s' * (pairs.count != 1)} of images in different splits look alike (at most "
        f"{bits} of {BITS} bits of their perceptual hashes differ), {pairs.near:,} {pairs.names[-1]} "
        f"row{'s' * (pairs.near != 1)} among them; the most alike: "
        f"{first[0]} {place(*first)} and {second[0]} {place(*second)} ({differing} bits)"
    )


def write_report(directory: Path, pairs: Pairs | None, place: Callable[[str, int], str]) -> None:
    """Write the pairs as a table with the columns bits, split, image, other_split and other_image; None: no rows."""
    rows = []
    for differing, one, row, other, other_row in [] if pairs is None else pairs.rows.tolist():
        first, second = pairs.names[one], pairs.names[other]  # type: ignore[union-attr]
        rows.append((differing, first, place(first, row), second, place(second, other_row)))
    write_bytes(directory / REPORT, csv_text(("bits", "split", "image", "other_split", "other_image"), rows))
