"""Every architecture that was scored, once, in order; kept in a file so that an interrupted search loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from imbnas.disk import room_for
from imbnas.files import RECORD_LIMIT, canonical_json, discard, read_regular, write_bytes
from imbnas.sealed import sealed, unsealed
from imbnas.spaces.cost import Cost
from imbnas.spaces.networks import Architecture


@dataclass(frozen=True)
class Score:
    """The score of one architecture on the validation rows; accuracies in [0, 1]."""

    balanced_accuracy: float
    accuracy: float
    worst_class: float
    standard_error: float
    """Of the one that is searched for."""


@dataclass(frozen=True)
class Entry:
    """One scored architecture."""

    architecture: Architecture
    generation: int
    score: Score
    cost: Cost


class Archive:
    """Scores by architecture.

    Scored architectures are appended to `path` line by line. A search that starts again reads them back and finds each
    score there as its method, which is a function of its seed and of scores, proposes the same architectures again.
    """

    def __init__(
        self,
        path: Path,
        score: Callable[[Sequence[Architecture]], Iterable[tuple[Architecture, Score]]],
        cost: Callable[[Architecture], Cost],
        objective: str,
        pause: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Read what an earlier attempt left in `path`.

        `score` yields each of the architectures it is given with its score, in an order of its own choice; `pause` is
        called after each and may raise. `tell` hears of scores that are damaged and found anew.
        """
        self._path = path
        self._score = score
        self._cost = cost
        self._objective = objective
        self._pause = pause
        self._known = _read(path, tell)
        self.entries: dict[Architecture, Entry] = {}

    def __contains__(self, architecture: Architecture) -> bool:
        """Return whether this search has already evaluated `architecture`."""
        return architecture in self.entries

    def value(self, architecture: Architecture) -> float:
        """Return the objective of an evaluated architecture."""
        return float(getattr(self.entries[architecture].score, self._objective))

    def macs(self, architecture: Architecture) -> int:
        """Return the multiply-accumulate operations of any architecture."""
        return self._cost(architecture).macs

    def evaluate(self, architectures: Sequence[Architecture], generation: int) -> None:
        """Score those that are new together, each once; each score is on disk as soon as it is known."""
        new = [a for a in dict.fromkeys(architectures) if a not in self.entries]
        unknown = [a for a in new if a not in self._known]
        for architecture, score in self._score(unknown) if unknown else ():
            self._append(architecture, score)
            self._known[architecture] = score
            self._pause()
        for architecture in new:
            self.entries[architecture] = Entry(
                architecture, generation, self._known[architecture], self._cost(architecture)
            )

    def ranked(self) -> list[Entry]:
        """Return the entries best first: higher objective, then fewer MACs, then the smaller tuple."""
        return sorted(
            self.entries.values(),
            key=lambda entry: (-self.value(entry.architecture), entry.cost.macs, entry.architecture),
        )

    def _append(self, architecture: Architecture, score: Score) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = canonical_json(sealed({"architecture": list(architecture), **asdict(score)})) + "\n"
        with room_for(self._path, len(line)), self._path.open("a", encoding="utf-8") as stream:
            stream.write(line)

    def finish(self) -> None:
        """Discard the file: the search's outputs are written."""
        discard(self._path)


def _read(path: Path, tell: Callable[[str], None]) -> dict[Architecture, Score]:
    """Read an earlier attempt's scores up to the first damaged one; what a kill has cut off counts as damaged."""
    if not path.exists():
        return {}
    known: dict[Architecture, Score] = {}
    lines = read_regular(path, RECORD_LIMIT).split(b"\n")
    for number, line in enumerate(lines[:-1]):
        try:
            architecture, score = _parse(line)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            tell(f"{path}:{number + 1}: not a whole search score ({error}); it and those behind it are found anew")
            break
        known[architecture] = score
    else:
        number = len(lines) - 1
    whole = b"".join(line + b"\n" for line in lines[:number])
    if whole != b"\n".join(lines):
        write_bytes(path, whole)
    return known


def _parse(line: bytes) -> tuple[Architecture, Score]:
    record = unsealed(json.loads(line))
    architecture = tuple(record.pop("architecture"))
    score = Score(**record)
    if not all(isinstance(value, float) and 0.0 <= value <= 1.0 for value in asdict(score).values()):
        raise ValueError(f"found {score}")
    return architecture, score
