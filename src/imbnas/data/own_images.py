"""Datasets whose images are the user's own files: a directory per class, or indexes of paths and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from imbnas.data.group_files import (
    groups_of,
    named_file,
    own_groups,
    read_class_names,
    read_group_file,
    refuse_crossing,
)
from imbnas.data.image_lists import complete_classes, listed_twice
from imbnas.data.indexes import Index, read_index
from imbnas.data.links import refuse_linked
from imbnas.data.raw import Raw, relative_path
from imbnas.data.verify import KINDS, entries, has_image_name
from imbnas.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Listing:
    """A raw split and where each of its rows comes from: `place(i)` is a file, or FILE:LINE and the path there.

    `passed_over` are the files among the images that are none by their names; `unread` names the columns that nobody
    reads, by the table that has them.
    """

    raw: Raw
    place: Callable[[int], str]
    passed_over: tuple[str, ...] = ()
    unread: tuple[tuple[Path, tuple[str, ...]], ...] = ()


def read_folder(root: Path, splits: Mapping[str, str | None], section: str) -> dict[str, Listing | None]:
    """Return the splits of a tree with one directory per class, class names sorted, images sorted by path.

    `splits` maps train, validation and test to directories below `root`; without train, `root` itself is the training
    tree, and the directories of the other splits are not classes. `groups` may name a table beside them. Hidden files,
    and what tools leave beside images, are skipped; so is any other file that is not an image by its name, which is
    counted. Raises UserError naming the directory or file.
    """
    names = _split_names(splits, section)
    _refuse_nested(names, section)
    refuse_linked(root, names.values())
    below = {PurePosixPath(name).parts[0] for name in names.values()}
    train_top = names.get("train")
    classes = _class_names(root, train_top, below if train_top is None else set())
    train = _read_tree(root, train_top, classes, classes)
    empty = np.flatnonzero(np.bincount(train.raw.labels, minlength=len(classes)) == 0)
    if len(empty):
        raise _no_images(train, root, train_top, [classes[label] for label in empty])
    listings: dict[str, Listing | None] = {"train": train}
    for split in ("validation", "test"):
        listings[split] = None
        if split in names:
            listings[split] = _read_tree(root, names[split], _class_names(root, names[split], set()), classes)
    return _grouped(listings, named_file(root, splits, "groups", section), section)


def _split_names(splits: Mapping[str, str | None], section: str) -> dict[str, str]:
    names: dict[str, str] = {}
    for split in SPLITS:
        name = splits.get(split)
        if name is not None:
            try:
                names[split] = relative_path(name)
            except ValueError as error:
                raise UserError(f"{section}.splits.{split}: {name!r}: {error}") from None
    return names


def _refuse_nested(names: Mapping[str, str], section: str) -> None:
    for split, name in names.items():
        for other, parent in names.items():
            if split != other and PurePosixPath(name).is_relative_to(parent):
                raise UserError(
                    f"{section}.splits.{split}: {name!r} lies in splits.{other} {parent!r}, expected them apart"
                )


def _class_names(root: Path, top: str | None, apart: set[str]) -> list[str]:
    """Return the sorted names of the class directories in `root/top`, without those in `apart`."""
    folder = root / top if top else root
    names = []
    for name, is_folder in entries(folder, "a directory with one directory per class"):
        if name in apart:
            continue
        if is_folder:
            names.append(name)
        elif has_image_name(name):
            raise UserError(f"{folder / name}: an image outside any class, expected it in a class directory")
    if not names:
        raise UserError(f"{folder}: no class directories found, expected one directory per class")
    return names


def _read_tree(root: Path, top: str | None, present: list[str], classes: list[str]) -> Listing:
    """Return the images of `present` class directories, labelled by their place in the training set's `classes`."""
    label_of = {name: label for label, name in enumerate(classes)}
    paths: list[str] = []
    labels: list[int] = []
    passed_over: list[str] = []
    for name in present:
        where = f"{top}/{name}" if top else name
        if name not in label_of:
            raise UserError(f"{root / where}: class {name!r} is not in the training images, expected one of theirs")
        found = sorted(_images_in(root, where, passed_over))
        paths += found
        labels += [label_of[name]] * len(found)
    if not paths:
        raise UserError(f"{root / top if top else root}: no images found, expected {KINDS} files")
    raw = Raw(np.array(labels, dtype=np.int64), classes, None, paths, root)
    return Listing(raw, lambda i: str(root / paths[i]), tuple(passed_over))


def _no_images(train: Listing, root: Path, top: str | None, empty: list[str]) -> UserError:
    """Return the error that names the first class without images, and what lies in its directory instead."""
    where = f"{top}/{empty[0]}" if top else empty[0]
    others = [path for path in train.passed_over if path.startswith(f"{where}/")]
    instead = f" among {len(others)} files ({endings(others)})" if others else ""
    more = f" (so it is with {len(empty) - 1} more classes)" if len(empty) > 1 else ""
    return UserError(
        f"{root / where}: no image of class {empty[0]!r} found{instead}, expected at least one: {KINDS}; or take the "
        f"directory away{more}"
    )


def endings(paths: Sequence[str]) -> str:
    """Return the most frequent suffixes of files with their counts, as text."""
    counted = Counter(PurePosixPath(path).suffix.lower() or "no suffix" for path in paths).most_common()
    more = [f"others {sum(count for _, count in counted[5:])}"] if len(counted) > 5 else []
    return ", ".join([f"{suffix} {count}" for suffix, count in counted[:5]] + more)


def _images_in(root: Path, where: str, passed_over: list[str]) -> list[str]:
    """Return all images below `root/where`; add files that are not images by their names to `passed_over`."""
    found: list[str] = []
    for entry, is_folder in entries(root / where, "a directory of images"):
        name = f"{where}/{entry}"
        if is_folder:
            found += _images_in(root, name, passed_over)
        elif has_image_name(entry):
            found.append(name)
        else:
            passed_over.append(name)
    return found


def read_list(root: Path, splits: Mapping[str, str | None], section: str) -> dict[str, Listing | None]:
    """Return the splits of indexes: text files with lines `path label`, as ImageNet-LT is published, tables, or JSON.

    `splits` maps train, validation and test to files below `root`, and perhaps groups and class_names; a table of the
    training images may hold all splits, see `indexes.py`. Paths are relative to `root`. Classes are called as
    `class_names` says, else by the labels: names in alphabetical order, or numbers, of which the training list must
    hold every one from 0. Raises UserError that begins with the file and the line or row for a wrong one, a label that
    the training list lacks, a path that leaves the root, or an image listed twice, be it in two lists; and for a linked
    directory on the way to an image.
    """
    names = _split_names(splits, section)
    refuse_linked(root, {name.rpartition("/")[0] for name in names.values()})
    indexes = _by_split({split: read_index(root / name) for split, name in names.items()}, section)
    classes, named = _classes(indexes["train"], named_file(root, splits, "class_names", section))
    listings: dict[str, Listing | None] = dict.fromkeys(SPLITS)
    owner: dict[str, tuple[list[str], np.ndarray, Path]] = {}
    for split, index in indexes.items():
        lines = index.lines
        refuse_linked(root, {path.rpartition("/")[0] for path in lines.paths})
        labels = index.labels(classes, named)
        hashes = np.fromiter(map(hash, lines.paths), dtype=np.int64, count=len(lines.paths))
        hashes.sort()
        # Sets of millions of strings take long, and need to be made only where two hashes are equal.
        if np.any(hashes[1:] == hashes[:-1]) and len(set(lines.paths)) != len(lines.paths):
            raise listed_twice(lines)
        for others, known, file in owner.values():
            both = set(lines.paths) & set(others) if np.isin(hashes, known).any() else set()
            if both:
                row = next(i for i, path in enumerate(lines.paths) if path in both)
                raise UserError(f"{lines.place(row)} is in {file} too, expected an image in one list only")
        owner[split] = (lines.paths, hashes, lines.file)
        groups = None if index.groups is None else own_groups(index.groups, lines.paths)
        raw = Raw(labels, classes, None, lines.paths, root, groups=groups)
        listings[split] = Listing(raw, lines.place, unread=((lines.file, index.unread),) if index.unread else ())
    return _grouped(listings, named_file(root, splits, "groups", section), section)


def _by_split(indexes: dict[str, Index], section: str) -> dict[str, Index]:
    """Return the index of each split, of which a table may hold several."""
    for split, index in indexes.items():
        if index.splits is not None and (split != "train" or len(indexes) > 1):
            raise UserError(
                f"{index.lines.file}: has a column split and is {section}.splits.{split}, one of {len(indexes)} files, "
                f"expected it alone, as {section}.splits.train, or no such column"
            )
    train = indexes["train"]
    if train.splits is None:
        return indexes
    parts = {split: np.flatnonzero(train.splits == split) for split in SPLITS}
    if not len(parts["train"]):
        raise UserError(f"{train.lines.file}: no row of the split train found, expected training images")
    found = {split: train.part(rows) for split, rows in parts.items() if len(rows)}
    # The columns of a table of all splits are told of once.
    return found | {"train": replace(found["train"], unread=train.unread)}


def _classes(train: Index, names: Path | None) -> tuple[list[str], bool]:
    """Return the classes of the training images, each of which has one, and whether labels are names of them."""
    if names is None and train.names is None:
        return complete_classes(train.lines), False
    present = np.unique(train.lines.labels)
    if names is None:
        assert train.names is not None
        # Names of the other splits' rows alone are told of where those rows are; JSON lists classes without images.
        listed = train.lines.file.suffix.lower() == ".json"
        classes = train.names if listed else [train.names[label] for label in present.tolist()]
    else:
        classes = read_class_names(names)
    empty = np.flatnonzero(np.bincount(train.labels(classes, names is None), minlength=len(classes)) == 0)
    if len(empty):
        raise UserError(
            f"{train.lines.file}: class {classes[empty[0]]!r} has no image, expected one for each of the "
            f"{len(classes)} classes{'' if names is None else f' that {names} names'}"
        )
    return classes, names is None


def _grouped(listings: dict[str, Listing | None], file: Path | None, section: str) -> dict[str, Listing | None]:
    """Return the listings with the groups of a file, or of their own; UserError where splits have one in common."""
    found = {split: listing for split, listing in listings.items() if listing is not None}
    own = next((split for split, listing in found.items() if listing.raw.groups is not None), None)
    if file is not None and own is not None:
        raise UserError(f"{section}.groups: {file}, but the index has a column group, expected one of both")
    if file is None and own is None:
        return listings
    known: dict[str, str] = {}
    if file is not None:
        known, unread = read_group_file(file)
        train = found["train"]
        found["train"] = replace(train, unread=(*train.unread, *([(file, unread)] if unread else [])))
    parts: dict[str, tuple[list[str], list[str]]] = {}
    for split, listing in found.items():
        paths = listing.raw.paths or []
        groups = listing.raw.groups or paths if file is None else groups_of(file, known, paths)
        parts[split] = paths, groups
        found[split] = replace(listing, raw=replace(listing.raw, groups=groups))
    refuse_crossing(parts, section)
    return listings | found


READERS = {"folder": read_folder, "list": read_list}
"""The reader of each dataset whose images stay files."""
