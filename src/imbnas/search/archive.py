"""Every architecture that a search has evaluated, once, in order, with its score and its cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from imbnas.spaces.cost import Cost
from imbnas.spaces.networks import Architecture


@dataclass(frozen=True)
class Score:
    """The score of one architecture, the larger the better.

    Where it was measured on validation rows it is an accuracy in [0, 1] and comes with the others, and with what
    differences between two architectures are made of; None otherwise.
    """

    value: float
    standard_error: float | None = None
    balanced_accuracy: float | None = None
    accuracy: float | None = None
    worst_class: float | None = None
    right: bytes | None = None
    """One bit per validation row, 1 for a right answer, eight to a byte, the first row's in the highest place."""


@dataclass(frozen=True)
class Entry:
    """One scored architecture."""

    architecture: Architecture
    generation: int
    score: Score
    cost: Cost


class Archive:
    """Scores by architecture; each is found once, however often a method proposes it."""

    def __init__(
        self,
        score: Callable[[Sequence[Architecture]], Iterable[tuple[Architecture, Score]]],
        cost: Callable[[Architecture], Cost],
        scored: Callable[[Sequence[Architecture]], None] = lambda architectures: None,
    ) -> None:
        """Take what scores architectures, each with its score in an order of its own choice, and what they cost.

        `scored` is told what was scored together.
        """
        self._score = score
        self._cost = cost
        self._scored = scored
        self.entries: dict[Architecture, Entry] = {}

    def __contains__(self, architecture: Architecture) -> bool:
        """Return whether this search has already evaluated `architecture`."""
        return architecture in self.entries

    def value(self, architecture: Architecture) -> float:
        """Return the score of an evaluated architecture."""
        return self.entries[architecture].score.value

    def price(self, architecture: Architecture) -> int:
        """Return what a method that minimises cost looks at: latency, else energy, where it is known, else MACs."""
        cost = self._cost(architecture)
        return cost.latency or cost.energy or cost.macs

    def evaluate(self, architectures: Sequence[Architecture], generation: int) -> None:
        """Score those that are new together, each once."""
        new = [a for a in dict.fromkeys(architectures) if a not in self.entries]
        found = dict(self._score(new)) if new else {}
        for architecture in new:
            self.entries[architecture] = Entry(architecture, generation, found[architecture], self._cost(architecture))
        if new:
            self._scored(new)

    def anew(self) -> Archive:
        """Return an archive of the same architectures, scored together at this moment."""
        other = Archive(self._score, self._cost)
        found = dict(self._score(list(self.entries)))
        other.entries = {each: replace(entry, score=found[each]) for each, entry in self.entries.items()}
        return other

    def ranked(self) -> list[Entry]:
        """Return the entries best first: higher score, less latency, less energy, fewer MACs, the smaller tuple."""

        def order(entry: Entry) -> tuple[float, int, int, int, Architecture]:
            cost = entry.cost
            return -entry.score.value, cost.latency, cost.energy, cost.macs, entry.architecture

        return sorted(self.entries.values(), key=order)
