"""The raw files that a reader takes, and their contents: tells a change from a touch, a copy or a foreign file.

A step notes what it has read. A later check compares names, sizes and times, and reads only files whose time has
changed since they were last read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbnas.errors import UserError
from imbnas.files import canonical_json, open_regular, read_json, write_bytes

if TYPE_CHECKING:
    from imbnas.data.raw import Dataset, Raw

FOLDER = Path(".imbnas/raw")
"""Where notes and memories lie, below the project's root."""
_KEPT = 16
"""Memories of as many datasets are kept; without one, files are read to be compared."""
_ID = 32


@dataclass(frozen=True)
class Reading:
    """The files that a reader takes, in its order, relative to `root`.

    `listing` is a digest of all that the reader takes besides their contents: names, order, labels, classes, splits.
    """

    root: Path
    files: list[str]
    listing: str


@dataclass(frozen=True)
class Contents:
    """Size in bytes, time of the last change in nanoseconds and SHA-256 of each file of a reading, when it was read."""

    sizes: list[int]
    times: list[int]
    digests: list[str]

    def renewed(self, reading: Reading, places: Sequence[int]) -> Contents:
        """Return these contents, or none, with the files at `places` read now."""
        from imbnas.data.verify import map_threaded

        read = map_threaded(lambda name: _read(reading.root / name), [reading.files[place] for place in places])
        found = dict(enumerate(zip(self.sizes, self.times, self.digests, strict=True)))
        found.update(zip(places, read, strict=True))
        entries = [found[place] for place in range(len(reading.files))]
        return Contents(*([entry[column] for entry in entries] for column in range(3)))  # type: ignore[arg-type]

    @property
    def digest(self) -> str:
        """A digest of all contents in their order."""
        return hashlib.sha256("\n".join(self.digests).encode()).hexdigest()[:_ID]


def files_read(name: str, root: Path, splits: Mapping[str, str | None]) -> Reading | None:
    """Return what the reader of the dataset `name` would take now, None where it checks the contents itself.

    Raises UserError or OSError as the reader does.
    """
    from imbnas.data.own_images import READERS

    if name in READERS:
        listings = READERS[name](root, dict(splits), "target")
        return reading_of(root, {split: found.raw if found else None for split, found in listings.items()})
    return _whole_files(name, root)


def _whole_files(name: str, root: Path) -> Reading | None:
    """Return the reading of a dataset whose arrays lie in a few files that nobody compares with checksums."""
    from imbnas.data.arrays import npz_file
    from imbnas.data.builtin import raw_names

    if name == "npz":
        file = npz_file(root, "target")
        return Reading(file.parent, [file.name], _listing([name]))
    names = raw_names(name, root)
    return None if names is None else Reading(root, names, _listing([names]))


def reading_of(root: Path, splits: Mapping[str, Raw | None]) -> Reading:
    """Return the reading of splits whose images are files."""
    files: list[str] = []
    parts: list[Any] = []
    for split, raw in splits.items():
        if raw is not None:
            paths = raw.paths or []
            files += paths
            parts += [[split, raw.classes], raw.labels.astype("<i8").tobytes(), paths]
            parts += [] if raw.groups is None else [raw.groups]
    return Reading(root, files, _listing(parts))


def read_dataset(name: str, root: Path, dataset: Dataset) -> tuple[Dataset, Reading | None, Contents | None]:
    """Read the contents of all files of a dataset that has just been loaded.

    Returns the dataset, whose raw splits then hold the digests of their files, with what was read; None where the
    reader checks the contents itself. Raises UserError naming a file that cannot be read.
    """
    if dataset.train.paths is None:
        whole = _whole_files(name, root)
        return dataset, whole, None if whole is None else read_contents(whole)
    splits = {split: getattr(dataset, split) for split in ("train", "validation", "test")}
    reading = reading_of(root, splits)
    contents = read_contents(reading)
    rest = iter(contents.digests)
    held = {
        split: replace(raw, digests=[next(rest) for _ in raw.paths or []])
        for split, raw in splits.items()
        if raw is not None
    }
    return replace(dataset, **held), reading, contents


def read_contents(reading: Reading) -> Contents:
    """Return the contents of the files of a reading; UserError naming one that cannot be read."""
    return Contents([], [], []).renewed(reading, range(len(reading.files)))


def present_contents(
    root: Path, reading: Reading, former: str, tell: Callable[[int], None] = lambda count: None
) -> Contents | None:
    """Return the contents now, None where their digest cannot be `former`, which sizes may tell without reading.

    Only files with another size or time than is remembered in the project directory `root` are read; `tell`
    hears how many, if any. Raises as `read_contents`, and FileNotFoundError for a file that is gone.
    """
    known = recall(root, reading)
    if known is None:
        tell(len(reading.files))
        return read_contents(reading)
    states = _states(reading)
    other = [k for k, state in enumerate(states) if state != (known.sizes[k], known.times[k])]
    if known.digest == former and any(states[k][0] != known.sizes[k] for k in other):
        return None
    if other:
        tell(len(other))
    return known.renewed(reading, other)


def remember(root: Path, reading: Reading, contents: Contents) -> None:
    """Write down sizes, times and digests of the files of a reading in the project directory `root`.

    What is older than the last few is forgotten.
    """
    value = {"sizes": contents.sizes, "times": contents.times, "digests": contents.digests}
    write_bytes(_memory(root, reading), canonical_json(value).encode())
    kept = sorted((root / FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in kept[:-_KEPT]:
        path.unlink(missing_ok=True)


def recall(root: Path, reading: Reading) -> Contents | None:
    """Return what is remembered of a reading; None where nothing is, or it is damaged."""
    value = _noted(_memory(root, reading))
    columns = [value.get(name) for name in ("sizes", "times", "digests")]
    for column, kind in zip(columns, (int, int, str), strict=True):
        if not isinstance(column, list) or len(column) != len(reading.files) or set(map(type, column)) - {kind}:
            return None
    return Contents(*columns)  # type: ignore[arg-type]


def note(root: Path, output: Path, reading: Reading | None, contents: Contents | None) -> None:
    """Note in the project directory `root` what a step has read to make `output`, the first of its directories."""
    file = _note(root, output)
    if reading is None or contents is None:
        file.unlink(missing_ok=True)
        return
    if recall(root, reading) != contents:
        remember(root, reading, contents)
    write_bytes(file, canonical_json({"listing": reading.listing, "content": contents.digest}).encode())


def noted(root: Path, output: Path) -> tuple[str, str] | None:
    """Return digests of the listing and the contents that were read to make `output`; None where none are noted."""
    value = _noted(_note(root, output))
    listing, content = value.get("listing"), value.get("content")
    return (listing, content) if isinstance(listing, str) and isinstance(content, str) else None


def _memory(root: Path, reading: Reading) -> Path:
    return root / FOLDER / f"{reading.listing}.json"


def _note(root: Path, output: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.relpath(output, root))).hexdigest()[:_ID]
    return root / FOLDER / "made" / f"{name}.json"


def _noted(file: Path) -> dict[str, Any]:
    try:
        value = read_json(file, "what a step has noted of raw files")
    except (UserError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _listing(parts: list[Any]) -> str:
    state = hashlib.sha256()
    for part in parts:
        # A file's name may hold a newline, but JSON shows where it ends.
        state.update(part if isinstance(part, bytes) else json.dumps(part).encode())
        state.update(b"\0")
    return state.hexdigest()[:_ID]


def _states(reading: Reading) -> list[tuple[int, int]]:
    """Return size and time of each file; FileNotFoundError for one that is gone."""
    root = f"{reading.root}/"
    found = []
    for name in reading.files:
        state = os.stat(root + name)  # noqa: PTH116 - a million paths take seconds to make
        found.append((state.st_size, state.st_mtime_ns))
    return found


def _read(file: Path) -> tuple[int, int, str]:
    """Return size and time of a file before it is read, so that a change meanwhile has another, and its digest."""
    try:
        with open_regular(file) as stream:
            state = os.fstat(stream.fileno())
            return state.st_size, state.st_mtime_ns, hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}), expected a file that can be read") from None
