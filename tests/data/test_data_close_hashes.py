"""Close hashes: the search by bands finds what a comparison of all pairs finds, each pair once."""

from __future__ import annotations

import numpy as np
import pytest

from imbnas.data import close_hashes
from imbnas.data.close_hashes import BITS, WORDS, Banding, by_bands, by_comparison, close_pairs


def flipped(words: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return hashes of which `counts[i]` random bits are turned."""
    chosen = rng.random((len(words), BITS)).argsort(axis=1).argsort(axis=1) < counts[:, None]
    return words ^ np.packbits(chosen, axis=1).view(np.uint64)


def found(pairs: object) -> list[tuple[int, int, int]]:
    return sorted(row for part in pairs for row in zip(*(each.tolist() for each in part), strict=True))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("bits", "bands"), [(0, 13), (3, 13), (13, 13), (24, 13), (24, 17), (24, 25), (40, 21)])
def test_bands_miss_no_pair_and_name_none_twice(bits: int, bands: int) -> None:
    rng = np.random.default_rng(bits)
    one = rng.integers(0, 2**64, (300, WORDS), dtype=np.uint64)
    # What all photographs of one kind share: buckets are far from equal.
    one[200:, :3] = one[200, :3]
    other = np.concatenate([flipped(one, rng.integers(0, bits + 3, 300), rng), one[:5], one[:5]])
    expected = found(by_comparison(one, other, bits))
    assert found(by_bands(one, other, Banding(bands, bits))) == expected
    assert found(close_pairs(one, other, bits)) == expected
    assert found(close_pairs(other, one, bits)) == sorted((d, right, left) for d, left, right in expected)
    # The planted ones are there, up to the limit itself.
    assert len(expected) > 80
    assert max(d for d, _, _ in expected) == bits


def test_pairs_whose_differences_are_dealt_evenly_are_found() -> None:
    """The worst case of the pigeonhole: no band has fewer differences than the bound says."""
    banding = Banding(13, 24)
    assert banding.radii == [1] * 12 + [0]
    chosen = np.zeros(BITS, dtype=bool)
    for band, radius in enumerate(banding.radii):
        chosen[band :: banding.count][: radius + 1] = True
    # One difference more than allowed; each of them taken away makes it a pair.
    assert chosen.sum() == banding.bits + 1
    zero = np.zeros((1, WORDS), dtype=np.uint64)
    assert found(by_bands(zero, np.packbits(chosen).view(np.uint64)[None], banding)) == []
    less = np.repeat(chosen[None], banding.bits + 1, axis=0)
    less[np.arange(len(less)), np.flatnonzero(chosen)] = False
    pairs = found(by_bands(zero, np.packbits(less, axis=1).view(np.uint64), banding))
    assert pairs == [(24, 0, row) for row in range(len(less))]


def test_many_hashes_are_not_compared_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(close_hashes, "by_comparison", lambda *arguments: pytest.fail("all pairs are compared"))
    compared = []
    whole = close_hashes.ragged

    def counted(*arguments: np.ndarray) -> object:
        for part in whole(*arguments):
            compared.append(len(part[0]))
            yield part

    monkeypatch.setattr(close_hashes, "ragged", counted)
    words = np.random.default_rng(0).integers(0, 2**64, (18_000, WORDS), dtype=np.uint64)
    one, other = words[:6_000], words[6_000:]
    assert found(close_pairs(one, other, 24)) == []
    assert sum(compared) < len(one) * len(other) / 40
