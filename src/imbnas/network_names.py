"""The names of the networks that `retrain` trains: in files, tables and figures."""

from __future__ import annotations

FINAL = "final"
"""The chosen network."""
INT8 = "final-int8"
"""The chosen network in 8 bits (`evaluate.int8`), which only results know."""
LARGEST = "largest"
"""The largest within the limits of the search."""
PATTERN = r"^(random-[1-9][0-9]{0,4}|largest)$"
"""The name of a reference."""
_RANDOM = "random"


def random_name(place: int) -> str:
    """Return the name of a random reference, counted from 1."""
    return f"{_RANDOM}-{place}"


def kind(name: str) -> str:
    """Return `final`, `largest` or `random`."""
    return _RANDOM if is_random(name) else name


def is_random(name: str) -> bool:
    """Return whether a network is a random reference; results of earlier versions have a single `random`."""
    return name == _RANDOM or name.startswith(f"{_RANDOM}-")


def title(name: str) -> str:
    """Return the name of a network as readers see it: `random-1` is "random 1"."""
    return {FINAL: "chosen", INT8: "chosen, 8 bits"}.get(name, name.replace("-", " "))


def by_place(name: str) -> tuple[int, int]:
    """Return a key that sorts names as they are shown: the chosen one, the random ones by number, the largest."""
    if is_random(name):
        return 1, int(name.partition("-")[2] or 0)
    return (0 if name == FINAL else 2), 0
