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
from imbnas.data.close_hashes import BITS, WORDS, close_pairs, ragged
from imbnas.data.decode import eight_bit
from imbnas.data.raw import Raw
from imbnas.files import write_bytes

REPORT = "near_duplicates.csv"
"""The report beside a test split."""
LISTED = 10_000
"""Pairs of a report, the most alike ones first."""
_SIDE = 16


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


class _Looks:
    """The different hashes of a split, and the rows that have each."""

    def __init__(self, words: np.ndarray) -> None:
        self.words, which, self.counts = np.unique(words, axis=0, return_inverse=True, return_counts=True)
        self.which = which.reshape(-1)
        self._rows = np.argsort(self.which, kind="stable")
        self._begins = np.cumsum(self.counts) - self.counts

    def row(self, look: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Return of the rows that have the hash `look` the one at place `number`, in ascending order."""
        found: np.ndarray = self._rows[self._begins[look] + number]
        return found


def pairs_across(splits: Mapping[str, np.ndarray], bits: int) -> Pairs:
    """Return pairs of rows of different splits whose hashes differ in at most `bits` bits; `splits` hold (N, WORDS)."""
    names = list(splits)
    # Thousands of copies, or of black images, would meet each other one by one.
    looks = [_Looks(splits[name]) for name in names]
    near = np.zeros(len(looks[-1].words), dtype=bool)
    found, count = np.zeros((0, 5), dtype=np.int64), 0
    for one, other in combinations(range(len(names)), 2):
        for differing, left, right in close_pairs(looks[one].words, looks[other].words, bits):
            count += int((looks[one].counts[left] * looks[other].counts[right]).sum())
            if other == len(names) - 1:
                near[right] = True
            for rows in _rows_of(looks, one, other, differing, left, right):
                found = np.concatenate([found, rows])
                if len(found) > 10 * LISTED:
                    found = _closest(found)
    return Pairs(names, _closest(found), count, int(near[looks[-1].which].sum()))


def _rows_of(
    looks: list[_Looks], one: int, other: int, differing: np.ndarray, left: np.ndarray, right: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield rows of a report for pairs of hashes: of each the first LISTED pairs of rows, for no more can be listed."""
    beside = looks[other].counts[right]
    each = np.minimum(looks[one].counts[left] * beside, LISTED)
    for pair, number in ragged(np.zeros_like(each), each):
        first = looks[one].row(left[pair], number // beside[pair])
        second = looks[other].row(right[pair], number % beside[pair])
        places = np.full_like(first, one), np.full_like(first, other)
        yield np.stack([differing[pair], places[0], first, places[1], second], axis=1)


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
