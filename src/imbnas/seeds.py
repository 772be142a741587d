"""Random streams that depend only on a seed, a name and a counter, so that a resumed run draws the same numbers."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: object) -> int:
    """Return a 63-bit seed for the stream of that name, e.g. ("supernet", "paths", step)."""
    text = "\0".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *names: object) -> np.random.Generator:
    """Return numpy's PCG64 generator for the stream of that name."""
    return np.random.Generator(np.random.PCG64(derive(seed, *names)))
