"""Ways to damage a file: cut at many lengths, one bit flipped at seeded places, bytes behind its end."""

from __future__ import annotations

import random
from collections.abc import Iterator


def damaged(content: bytes, flips: int = 60, cuts: int = 60) -> Iterator[bytes]:
    """Yield damaged copies of a file's content, none equal to it."""
    draws = random.Random(len(content))
    lengths = {0, 1, len(content) - 1, *(draws.randrange(len(content)) for _ in range(cuts))}
    yield from (content[:length] for length in sorted(lengths))
    for _ in range(flips):
        copy = bytearray(content)
        copy[draws.randrange(len(copy))] ^= 1 << draws.randrange(8)
        yield bytes(copy)
    yield content + b"\0"
    yield content + content
