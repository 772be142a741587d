"""Files of what scoring has found: an interrupted search loses nothing, and the next one scores less."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from imbnas.disk import room_for
from imbnas.files import LIST_LIMIT, canonical_json, read_regular, write_bytes
from imbnas.sealed import sealed, unsealed
from imbnas.spaces.networks import Architecture

T = TypeVar("T")


@dataclass(frozen=True)
class Coding(Generic[T]):
    """The way of a finding to a JSON value and back; `read` raises ValueError or TypeError for any other value."""

    write: Callable[[T], Any]
    read: Callable[[Any], T]


@dataclass(frozen=True)
class _Record(Generic[T]):
    """One finding, and the seconds that it took."""

    found: T
    seconds: float


class KeptScores(Generic[T]):
    """Findings by architecture, in the files `<base>.<run>.jsonl`.

    `base` ends in a digest of everything that a finding depends on. Each run appends line by line to a file of its own,
    which nobody else writes, and reads those of all: a search with another limit, another objective or another method
    finds there what its forerunners have scored. The files are not outputs, and deleting them costs only time.
    """

    def __init__(
        self,
        base: Path,
        run: str,
        score: Callable[[Sequence[Architecture]], Iterable[tuple[Architecture, T]]],
        coding: Coding[T],
        *,
        pause: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda message: None,
        reused: Callable[[float, bool], None] = lambda seconds, own: None,
    ) -> None:
        """Read what earlier runs, and earlier attempts of this one, have left.

        `score` yields each architecture that it is given with its finding; `pause` is called after each and may raise.
        `tell` hears of damaged findings, which are found anew. `reused` hears of the seconds that a finding took which
        is used again, and whether it is this run's own.
        """
        self._path = base.with_name(f"{base.name}.{run}.jsonl")
        self._score, self._coding = score, coding
        self._pause, self._tell, self._reused = pause, tell, reused
        self._own = self._read(self._path)
        self._others: dict[Architecture, _Record[T]] = {}
        for path in sorted(base.parent.glob(f"{base.name}.*.jsonl")):
            if path != self._path:
                self._others |= self._read(path)
        self._used: set[Architecture] = set()

    def __call__(self, architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, T]]:
        """Yield each architecture with its finding; each new one is on disk as soon as it is known."""
        unknown = []
        for architecture in architectures:
            record = self._own.get(architecture) or self._others.get(architecture)
            if record is None:
                unknown.append(architecture)
                continue
            if architecture not in self._used:
                self._reused(record.seconds, architecture in self._own)
            self._used.add(architecture)
            yield architecture, record.found
        begin = time.monotonic()
        for architecture, found in self._score(unknown) if unknown else ():
            record = _Record(found, time.monotonic() - begin)
            self._append(architecture, record)
            self._own[architecture] = record
            self._used.add(architecture)
            self._pause()
            yield architecture, found
            begin = time.monotonic()

    def _append(self, architecture: Architecture, record: _Record[T]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "architecture": list(architecture),
            "found": self._coding.write(record.found),
            "seconds": round(record.seconds, 4),
        }
        line = canonical_json(sealed(content)) + "\n"
        with room_for(self._path, len(line)), self._path.open("a", encoding="utf-8") as stream:
            stream.write(line)

    def _read(self, path: Path) -> dict[Architecture, _Record[T]]:
        """Read the whole lines of a file; what a kill has cut off, and what is damaged, is left out.

        Of this run's own file it is removed, so that the next line does not begin behind half of one.
        """
        if not path.exists():
            return {}
        known: dict[Architecture, _Record[T]] = {}
        *lines, cut = read_regular(path, LIST_LIMIT).split(b"\n")
        whole = []
        for number, line in enumerate(lines, 1):
            try:
                architecture, record = self._parse(line)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                self._tell(f"{path}:{number}: not a whole search score ({error}), found anew")
                continue
            known[architecture] = record
            whole.append(line + b"\n")
        if path == self._path and (cut or len(whole) < len(lines)):
            write_bytes(path, b"".join(whole))
        return known

    def _parse(self, line: bytes) -> tuple[Architecture, _Record[T]]:
        record = unsealed(json.loads(line))
        seconds = record["seconds"]
        if not isinstance(seconds, int | float) or not 0.0 <= seconds < float("inf"):
            raise ValueError(f"found {seconds!r}, expected seconds")
        architecture = tuple(record["architecture"])
        if not all(type(choice) is int for choice in architecture):
            raise ValueError(f"found {architecture}, expected choices")
        return architecture, _Record(self._coding.read(record["found"]), float(seconds))


def number_coding() -> Coding[float]:
    """Return how a score that is one number is kept."""

    def read(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"found {value!r}, expected a number")
        return float(value)

    return Coding(float, read)
