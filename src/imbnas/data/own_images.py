"""Datasets whose images are the user's own files: a directory per class, or a text file of paths and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from imbnas.data.image_lists import complete_classes, listed_twice, read_lines
from imbnas.data.links import refuse_linked
from imbnas.data.raw import Raw, relative_path
from imbnas.data.verify import KINDS, entries, has_image_name
from imbnas.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Listing:
    """A raw split and where each of its rows comes from: `place(i)` is a file, or FILE:LINE and the path there.

    `passed_over` counts the files among the images that are none by their names.
    """

    raw: Raw
    place: Callable[[int], str]
    passed_over: int = 0


def read_folder(root: Path, splits: Mapping[str, str | None], section: str) -> dict[str, Listing | None]:
    """Return the splits of a tree with one directory per class, class names sorted, images sorted by path.

    `splits` maps train, validation and test to directories below `root`; without train, `root` itself is the training
    tree, and the directories of the other splits are not classes. Hidden files, and what tools leave beside images, are
    skipped; so is any other file that is not an image by its name, which is counted. Raises UserError naming
    the directory or file.
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
        folder = root / (train_top or "") / classes[empty[0]]
        raise UserError(f"{folder}: no image of class {classes[empty[0]]!r} found, expected at least one")
    listings: dict[str, Listing | None] = {"train": train}
    for split in ("validation", "test"):
        listings[split] = None
        if split in names:
            listings[split] = _read_tree(root, names[split], _class_names(root, names[split], set()), classes)
    return listings


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
    return Listing(raw, lambda i: str(root / paths[i]), len(passed_over))


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
    """Return the splits of text files with lines `path label`, as ImageNet-LT and iNaturalist publish them.

    The label is the last word of a line, so that a path may contain spaces; it is relative to `root`. The training
    list must hold every class 0..C-1. Raises UserError that begins with FILE:LINE for a wrong line, a label that the
    training list lacks, a path that leaves the root, or an image listed twice, be it in two lists; and for a linked
    directory on the way to an image.
    """
    names = _split_names(splits, section)
    listings: dict[str, Listing | None] = dict.fromkeys(SPLITS)
    owner: dict[str, tuple[list[str], np.ndarray, Path]] = {}
    classes: list[str] = []
    for split, name in names.items():
        lines = read_lines(root / name)
        refuse_linked(root, {path.rpartition("/")[0] for path in lines.paths} | {name.rpartition("/")[0]})
        if split == "train":
            classes = complete_classes(lines)
        lines.check_labels(len(classes))
        hashes = np.fromiter(map(hash, lines.paths), dtype=np.int64, count=len(lines.paths))
        hashes.sort()
        # Sets of millions of strings take long, and need to be made only where two hashes are equal.
        if np.any(hashes[1:] == hashes[:-1]) and len(set(lines.paths)) != len(lines.paths):
            raise listed_twice(lines)
        for others, known, file in owner.values():
            both = set(lines.paths) & set(others) if np.isin(hashes, known).any() else set()
            if both:
                index = next(i for i, path in enumerate(lines.paths) if path in both)
                raise UserError(f"{lines.place(index)} is in {file} too, expected an image in one list only")
        owner[split] = (lines.paths, hashes, root / name)
        listings[split] = Listing(Raw(lines.labels, classes, None, lines.paths, root), lines.place)
    return listings


READERS = {"folder": read_folder, "list": read_list}
"""The reader of each dataset whose images stay files."""
