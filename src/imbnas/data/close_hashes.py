"""Pairs of hashes that differ in few bits, found without comparing all: exact, by multi-index hashing.

The 256 bits are dealt to m bands. Two hashes that differ in at most b = m * r + a bits (a < m) differ in at most r bits
in one of the first a + 1 bands, or in at most r - 1 in one of the others: else they would differ in more than b bits in
all. In each band the hashes of one side lie in a table by their bits there, in which those of the other side look up
their own bits and all that are so near to them (Norouzi, Punjani and Fleet 2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb

import numpy as np

BITS = 256
WORDS = BITS // 64
_CHUNK = 1 << 22
"""Pairs compared at once."""
_UNPACKED = 1 << 16
"""Hashes whose bits are dealt at once."""
_FEWEST = 13
"""Bands: with fewer, one would have more than 20 bits, and a large table."""
_RADII = 4
"""Radii from 0 of which the cheapest is taken."""
_SAMPLE = 200
"""Hashes of each side that tell how many pairs meet in a band."""
_LOOK_UP, _MEETING = 4.0, 8.0
"""Times of looking up a hash once, and of fetching and comparing a pair that meets, in comparisons of neighbours."""

Close = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Differing bits, rows of the one side and rows of the other."""


@dataclass(frozen=True)
class Banding:
    """The bands of hashes for pairs that differ in at most `bits` bits: `count` of them."""

    count: int
    bits: int

    def width(self, band: int) -> int:
        """Return the bits of a band: every `count`-th one, so that each band has fine and coarse ones."""
        return len(range(band, BITS, self.count))

    @cached_property
    def radii(self) -> list[int]:
        """Return for each band how many of its bits may differ, -1 where it need not be looked at."""
        whole, rest = divmod(self.bits, self.count)
        return [whole - (band > rest) for band in range(self.count)]

    @cached_property
    def masks(self) -> np.ndarray:
        """Return which bits each band has: uint64 (count, WORDS)."""
        chosen = np.arange(BITS) % self.count == np.arange(self.count)[:, None]
        return np.packbits(chosen, axis=1).view(np.uint64)

    def flips(self, band: int) -> list[int]:
        """Return the differences in a band that are within its radius, as numbers of its bits."""
        places = range(self.width(band))
        chosen = (each for size in range(self.radii[band] + 1) for each in combinations(places, size))
        return [sum(1 << place for place in each) for each in chosen]

    def keys(self, words: np.ndarray) -> list[np.ndarray]:
        """Return the bits of hashes (N, WORDS) in each band as numbers, int32 (N,)."""
        found = [np.empty(len(words), dtype=np.int32) for _ in range(self.count)]
        for start in range(0, len(words), _UNPACKED):
            part = np.ascontiguousarray(words[start : start + _UNPACKED])
            each = np.unpackbits(part.view(np.uint8), axis=1)
            for band, keys in enumerate(found):
                # No more than 20 bits: exact as float32, whose products are fast.
                weights = (1 << np.arange(self.width(band))).astype(np.float32)
                keys[start : start + len(part)] = each[:, band :: self.count].astype(np.float32) @ weights
        return found

    def meets(self, apart: np.ndarray, band: int) -> np.ndarray:
        """Return which pairs of hashes, by their differing bits (N, WORDS), are near to each other in a band."""
        near: np.ndarray = np.bitwise_count(apart & self.masks[band]).sum(axis=1, dtype=np.int64) <= self.radii[band]
        return near

    def effort(self, one: np.ndarray, other: np.ndarray) -> float:
        """Return the expected time for the hashes of both sides, in comparisons of two hashes."""
        flips = sum(comb(self.width(band), k) for band, r in enumerate(self.radii) for k in range(r + 1))
        tables = sum(2 ** self.width(band) for band in range(self.count))
        # Photographs of one kind share most of their coarse bits, so that chance alone would say too little.
        some, others = (words[:: -(-len(words) // _SAMPLE)] for words in (one, other))
        apart = (some[:, None] ^ others[None]).reshape(-1, WORDS)
        met = sum(float(self.meets(apart, band).mean()) for band in range(self.count))
        meeting = _MEETING * met * len(one) * len(other)
        return _LOOK_UP * (len(one) * flips + len(other) * self.count) + tables + meeting


def close_pairs(one: np.ndarray, other: np.ndarray, bits: int) -> Iterator[Close]:
    """Yield every pair of a row of `one` and a row of `other` (N, WORDS) that differ in at most `bits` bits, once."""
    if not len(one) or not len(other):
        return
    if len(one) > len(other):
        yield from ((differing, left, right) for differing, right, left in close_pairs(other, one, bits))
        return
    bandings = [Banding(count, bits) for count in {max(_FEWEST, bits // (radius + 1) + 1) for radius in range(_RADII)}]
    efforts = [banding.effort(one, other) for banding in bandings]
    if min(efforts) < len(one) * len(other):
        yield from by_bands(one, other, bandings[efforts.index(min(efforts))])
    else:
        yield from by_comparison(one, other, bits)


def by_comparison(one: np.ndarray, other: np.ndarray, bits: int) -> Iterator[Close]:
    """Yield the close pairs by comparing all."""
    at_once = max(1, _CHUNK // len(other))
    for start in range(0, len(one), at_once):
        part = one[start : start + at_once]
        # The first word leaves few pairs to be compared in full.
        left, right = np.nonzero(np.bitwise_count(part[:, None, 0] ^ other[None, :, 0]) <= bits)
        differing = np.bitwise_count(part[left] ^ other[right]).sum(axis=1, dtype=np.int64)
        close = differing <= bits
        yield differing[close], left[close] + start, right[close]


def by_bands(one: np.ndarray, other: np.ndarray, banding: Banding) -> Iterator[Close]:
    """Yield the close pairs that meet in a band, each in the first one in which it does."""
    sought, held = banding.keys(one), banding.keys(other)
    for band, radius in enumerate(banding.radii):
        if radius < 0:
            continue
        order = np.argsort(held[band], kind="stable")
        begins = np.concatenate([[0], np.cumsum(np.bincount(held[band], minlength=1 << banding.width(band)))])
        for flip in banding.flips(band):
            keys = sought[band] ^ np.int32(flip)
            for left, places in ragged(begins[keys], begins[keys + 1]):
                right = order[places]
                apart = one[left] ^ other[right]
                differing = np.bitwise_count(apart).sum(axis=1, dtype=np.int64)
                close = np.flatnonzero(differing <= banding.bits)
                for earlier in range(band if len(close) else 0):
                    close = close[~banding.meets(apart[close], earlier)]
                yield differing[close], left[close], right[close]


def ragged(begins: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the row of each range and a number in it, for all numbers of all ranges, about _CHUNK at once."""
    rows = np.flatnonzero(ends > begins)
    total = np.concatenate([[0], np.cumsum(ends[rows] - begins[rows])])
    start = 0
    while start < len(rows):
        stop = max(start + 1, int(np.searchsorted(total, total[start] + _CHUNK, side="right")) - 1)
        chosen = rows[start:stop]
        counts = ends[chosen] - begins[chosen]
        within = np.arange(total[stop] - total[start]) - np.repeat(total[start:stop] - total[start], counts)
        yield np.repeat(chosen, counts), np.repeat(begins[chosen], counts) + within
        start = stop
