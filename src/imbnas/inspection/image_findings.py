"""Findings about a dataset's images: counts, splits, sizes, and what deserves a look before anything trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from imbnas.data.contents import contents, first_of
from imbnas.data.datasets import is_path_dataset, load_dataset
from imbnas.data.own_images import READERS, Listing
from imbnas.data.raw import Raw
from imbnas.inspection.image_facts import ImageFacts, first_occurrences, look_at, misnamed
from imbnas.params.medmnist import stored_size
from imbnas.params.target import TargetParams

TINY = 16
"""Pixels of the short side below which a picture shows hardly anything."""
LONG = 4.0
"""Ratio of the sides from which the central square is a small part of a picture."""
NAMED = 20
"""Images that are named one by one, for each kind of oddity."""


@dataclass(frozen=True)
class Oddity:
    """A kind of images that deserve a look: how many there are, and some of them."""

    what: str
    count: int
    examples: tuple[str, ...]
    refused: bool = False
    """Whether a step would refuse them."""


@dataclass(frozen=True)
class Images:
    """Everything that was found out about one raw split."""

    raw: Raw
    content: np.ndarray
    """A key of each row's content, which is the same in all splits of a dataset, (N,)."""
    widths: np.ndarray
    heights: np.ndarray
    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    nbytes: int = 0
    oddities: tuple[Oddity, ...] = ()

    @cached_property
    def first(self) -> np.ndarray:
        """Return for each row the first one with the same content, int64 (N,)."""
        return first_of(self.content)

    @property
    def short_sides(self) -> np.ndarray:
        """Return the shorter side of each readable image in pixels."""
        return np.minimum(self.widths, self.heights)

    @property
    def counts(self) -> np.ndarray:
        """Return the rows of each class, int64 (C,)."""
        return np.bincount(self.raw.labels, minlength=len(self.raw.classes))

    @property
    def duplicates(self) -> int:
        """Return how many rows repeat an earlier one's content."""
        return int((self.first != np.arange(len(self.first))).sum())


def read_images(params: TargetParams, root: Path, section: str) -> dict[str, Images]:
    """Return what is found of each published split; UserError for what is wrong with files or parameters.

    A damaged file is an oddity here, not an error: all of them are to be seen at once.
    """
    if is_path_dataset(params.dataset):
        listings = READERS[params.dataset](root, params.named, section)
        return _of_files({split: listing for split, listing in listings.items() if listing is not None})
    dataset = load_dataset(
        params.dataset,
        root,
        download=params.download,
        splits=params.named,
        section=section,
        medmnist=None if params.name is None else (params.name, stored_size(params.size, params.shape[0])),
    )
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {split: _of_array(raw) for split, raw in splits.items() if raw is not None}


def in_both(one: Images, other: Images) -> int:
    """Return how many rows of one split have the content of a row of another."""
    return int(np.isin(one.content, other.content).sum())


def _of_array(raw: Raw) -> Images:
    assert raw.images is not None
    count, height, width, channels = raw.images.shape
    modes = Counter({"L" if channels == 1 else "RGB": count})
    content = contents(raw)
    pixels = raw.images.reshape(count, height * width, channels)
    plain = np.flatnonzero((pixels.min(axis=1) == pixels.max(axis=1)).all(axis=1))
    found = [_oddity("one colour", [f"row {row}" for row in plain.tolist()]), _disagreeing(raw, content)]
    widths, heights = np.full(count, width), np.full(count, height)
    return Images(raw, content, widths, heights, modes, Counter(), raw.images.nbytes, _present(found))


def _of_files(listings: Mapping[str, Listing]) -> dict[str, Images]:
    """Look at the files of all splits together, so that copies in two of them are found."""
    root = next(iter(listings.values())).raw.root
    facts = look_at(root, [path for listing in listings.values() for path in listing.raw.paths or []])
    keys = np.array(first_occurrences(facts), dtype=np.int64)
    images, begin = {}, 0
    for split, listing in listings.items():
        end = begin + len(listing.raw)
        images[split] = _of_split(listing, facts[begin:end], keys[begin:end])
        begin = end
    return images


def _of_split(listing: Listing, facts: Sequence[ImageFacts], content: np.ndarray) -> Images:
    raw = listing.raw
    whole = [each for each in facts if not each.fault]
    columns = [f"{name} in {file.name}" for file, names in listing.unread for name in names]
    found = [
        *_odd_files(raw.paths or [], facts),
        _disagreeing(raw, content),
        _oddity("not images by their names, passed over", listing.passed_over),
        _oddity("columns that are not read", columns),
    ]
    return Images(
        raw,
        content,
        np.array([each.width for each in whole], dtype=np.int64),
        np.array([each.height for each in whole], dtype=np.int64),
        Counter(each.mode for each in whole),
        Counter(each.format for each in whole),
        sum(each.nbytes for each in whole),
        _present(found),
    )


def _odd_files(paths: Sequence[str], facts: Sequence[ImageFacts]) -> list[Oddity]:
    rows = list(zip(paths, facts, strict=True))
    whole = [(path, each) for path, each in rows if not each.fault]
    return [
        _oddity("cannot be read", [f"{path}: {each.fault}" for path, each in rows if each.fault], refused=True),
        _oddity("one colour", [path for path, each in whole if each.plain]),
        _oddity(
            f"short side below {TINY} pixels",
            [f"{path}: {each.width} x {each.height}" for path, each in whole if min(each.width, each.height) < TINY],
        ),
        _oddity(
            f"sides {LONG:g} to 1 or longer",
            [
                f"{path}: {each.width} x {each.height}"
                for path, each in whole
                if max(each.width, each.height) >= LONG * min(each.width, each.height)
            ],
        ),
        _oddity(
            "another format than the name says",
            [f"{path}: {each.format}" for path, each in whole if misnamed(path, each)],
        ),
    ]


def _disagreeing(raw: Raw, content: np.ndarray) -> Oddity:
    """Return the copies whose class is another than that of the first with their content."""
    first = first_of(content)
    rows = np.flatnonzero(raw.labels != raw.labels[first])
    names = [(_name(raw, int(row)), _name(raw, int(first[row]))) for row in rows[:NAMED]]
    return Oddity("the same image in two classes", len(rows), tuple(f"{one} = {other}" for one, other in names))


def _name(raw: Raw, row: int) -> str:
    return raw.paths[row] if raw.paths is not None else f"row {row} ({raw.classes[raw.labels[row]]})"


def _oddity(what: str, names: Sequence[str], refused: bool = False) -> Oddity:
    return Oddity(what, len(names), tuple(names[:NAMED]), refused)


def _present(found: Sequence[Oddity]) -> tuple[Oddity, ...]:
    return tuple(each for each in found if each.count)
