"""The origin of each parameter among several files and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Origins:
    """The origins of a merged tree's values: names and trees, each taking precedence over those before it."""

    parts: Sequence[tuple[str, Mapping[str, Any]]]

    def __str__(self) -> str:
        """Return all names, for what is said of the whole tree."""
        return " + ".join(name for name, _ in self.parts)

    def of(self, sentence: str) -> str:
        """Return the names of those that gave the parameters which a complaint names; all names where none did.

        The complaint begins with the parameter that it is about, and names the others that contradict it.
        """
        words = sentence.replace(":", " ").replace(",", " ").split()
        dotted = [words[0], *(word for word in words[1:] if "." in word)]
        givers = {giver for word in dotted if (giver := self._giver(word.split("[")[0].split("."))) is not None}
        return " + ".join(self.parts[giver][0] for giver in sorted(givers)) or str(self)

    def _giver(self, path: Sequence[str]) -> int | None:
        """Return the number of the last part that reaches furthest along a dotted name, None where none knows it."""
        depths = [_depth(tree, path) for _, tree in self.parts]
        deepest = max(depths)
        return max(number for number, depth in enumerate(depths) if depth == deepest) if deepest else None


def _depth(tree: Any, path: Sequence[str]) -> int:
    """Return how many words of a dotted name lead into `tree`, whose own keys may hold dots (`study.axes`)."""
    if not isinstance(tree, Mapping):
        return 0
    ends = range(1, len(path) + 1)
    return max(
        (end + _depth(tree[key], path[end:]) for end in ends if (key := ".".join(path[:end])) in tree), default=0
    )
