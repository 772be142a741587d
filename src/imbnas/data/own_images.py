"""Datasets whose images are the user's own files: a directory per class, or a text file of paths and labels."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from imbnas.data.links import refuse_linked
from imbnas.data.raw import Raw, relative_path
from imbnas.data.verify import KINDS, LONGEST, entries, has_image_name
from imbnas.errors import UserError
from imbnas.files import LIST_LIMIT, open_regular

SPLITS = ("train", "validation", "test")
_CHUNK = 1 << 18
"""Bytes of a list that are read together: few enough to stay in the processor's cache."""
_LONGEST_LINE = 1 << 16
"""Bytes of a line: no system has longer paths."""
_DIGITS = 10
"""A label has fewer."""


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
        lines = _read_lines(root / name)
        refuse_linked(root, {path.rpartition("/")[0] for path in lines.paths} | {name.rpartition("/")[0]})
        if split == "train":
            classes = _complete(lines)
        lines.check_labels(len(classes))
        hashes = np.fromiter(map(hash, lines.paths), dtype=np.int64, count=len(lines.paths))
        hashes.sort()
        # Sets of millions of strings take long, and need to be made only where two hashes are equal.
        if np.any(hashes[1:] == hashes[:-1]) and len(set(lines.paths)) != len(lines.paths):
            raise _twice(lines)
        for others, known, file in owner.values():
            both = set(lines.paths) & set(others) if np.isin(hashes, known).any() else set()
            if both:
                index = next(i for i, path in enumerate(lines.paths) if path in both)
                raise UserError(f"{lines.place(index)} is in {file} too, expected an image in one list only")
        owner[split] = (lines.paths, hashes, root / name)
        listings[split] = Listing(Raw(lines.labels, classes, None, lines.paths, root), lines.place)
    return listings


@dataclass(frozen=True)
class _Lines:
    """The rows of one list file, and the line number of each."""

    file: Path
    paths: list[str]
    labels: np.ndarray
    numbers: np.ndarray

    def place(self, index: int) -> str:
        return f"{self.file}:{self.numbers[index]}: {self.paths[index]}"

    def check_labels(self, classes: int) -> None:
        """Raise UserError for the first label outside 0..classes-1."""
        outside = np.flatnonzero(self.labels >= classes)
        if len(outside):
            index = int(outside[0])
            raise UserError(
                f"{self.file}:{self.numbers[index]}: label {self.labels[index]} is not in the training list, "
                f"expected 0..{classes - 1}"
            )


def _read_lines(file: Path) -> _Lines:
    paths: list[str] = []
    # Packed integers: such a list may have ten million lines.
    labels, numbers = array("q"), array("q")
    value: dict[str, int] = {}
    number = 0
    try:
        with open_regular(file, LIST_LIMIT) as stream:
            while chunk := stream.read(_CHUNK) + stream.readline(_LONGEST_LINE):
                if b"\r" in chunk and b"\n" not in chunk:
                    chunk += stream.read()
                if len(chunk) - max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) > _LONGEST_LINE:
                    raise _endless(file, number + chunk.count(b"\n") + 1)
                words = _plain_words(chunk)
                if words is None:
                    words, rows, lines = _odd_words(file, number, chunk)
                else:
                    lines = len(words) // 2
                    rows = np.arange(number + 1, number + lines + 1)
                for word in set(words[1::2]) - value.keys():
                    value[word] = int(word)
                paths += words[::2]
                labels.extend(map(value.__getitem__, words[1::2]))
                numbers.frombytes(rows.tobytes())
                number += lines
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}, expected a text file with lines `path label`") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason}), expected lines `path label`") from None
    if not paths:
        raise UserError(f"{file}: no lines found, expected lines `path label`")
    return _Lines(file, paths, np.array(labels, dtype=np.int64), np.array(numbers, dtype=np.int64))


def _endless(file: Path, number: int) -> UserError:
    return UserError(f"{file}:{number}: found a line of over {_LONGEST_LINE} bytes, expected a path and a label")


def _plain_words(chunk: bytes) -> list[str] | None:
    """Return path, label, path, label, ... of lines that all are an ASCII path, one space and a label; None for others.

    Millions of lines pass here, so that they are checked together. What is odd, and maybe wrong, `_odd_words` judges.
    """
    if not chunk.isascii():
        return None
    codes = np.frombuffer(b"\n" + chunk, dtype=np.uint8)
    # No path begins with "/" or "." or contains "//" or "/.": it is in its shortest form and stays below the root.
    begins = (codes[:-1] == ord("/")) | (codes[:-1] == ord("\n"))
    if np.any(begins & ((codes[1:] == ord("/")) | (codes[1:] == ord(".")))):
        return None
    codes = codes[1:]
    breaks = codes[codes <= ord(" ")]
    if np.any(breaks[::2] != ord(" ")) or np.any(breaks[1::2] != ord("\n")):
        return None
    words = chunk.decode("ascii").split()
    named = all(map(has_image_name, {path[-LONGEST:] for path in words[::2]}))
    whole = all(word.isdigit() and len(word) < _DIGITS for word in set(words[1::2]))
    return words if named and whole and len(words) % 2 == 0 else None


def _odd_words(file: Path, before: int, chunk: bytes) -> tuple[list[str], np.ndarray, int]:
    """Return path, label, path, label, ..., the number of each line that holds any, and how many lines there are.

    `before` lines precede them in the file. Raises UserError for a wrong line.
    """
    words: list[str] = []
    rows: list[int] = []
    text = chunk.decode("utf-8" if before else "utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, before + 1):
        parts = line.strip().rsplit(None, 1)
        if not parts:
            continue
        if len(parts) == 1:
            raise UserError(f"{file}:{number}: found {parts[0]!r}, expected a path and a label")
        path, word = parts
        _label(file, number, word)
        words += (_checked(file, number, path), word)
        rows.append(number)
    return words, np.array(rows, dtype=np.int64), len(lines)


def _label(file: Path, number: int, word: str) -> None:
    if not (word.isascii() and word.isdigit() and len(word) < _DIGITS):
        raise UserError(f"{file}:{number}: label {word!r}, expected a whole number from 0")


def _checked(file: Path, number: int, path: str) -> str:
    # Millions of lines pass here: only odd ones pay for the full check.
    if path.startswith(("/", ".")) or "//" in path or "/." in path or "\0" in path:
        try:
            path = relative_path(path)
        except ValueError as error:
            raise UserError(f"{file}:{number}: {path!r}: {error}") from None
    if not has_image_name(path):
        raise UserError(f"{file}:{number}: {path}: not an image by its name, expected {KINDS}")
    return path


def _complete(lines: _Lines) -> list[str]:
    """Return the class names "0", "1", ... of the training list, or raise UserError naming the first empty class."""
    present = np.unique(lines.labels)
    missing = np.flatnonzero(present != np.arange(len(present)))
    if len(missing):
        from_one = np.array_equal(present, np.arange(1, len(present) + 1))
        hint = "; labels seem to begin at 1: subtract 1 from each" if from_one else ""
        raise UserError(
            f"{lines.file}: class {missing[0]} has no image, expected one for each of 0..{present[-1]}{hint}"
        )
    return [str(label) for label in present]


def _twice(lines: _Lines) -> UserError:
    first: dict[str, int] = {}
    for index, path in enumerate(lines.paths):
        if path in first:
            earlier = lines.numbers[first[path]]
            return UserError(f"{lines.place(index)} is listed twice (before in line {earlier}), expected once")
        first[path] = index
    raise AssertionError("no path is listed twice")


READERS = {"folder": read_folder, "list": read_list}
"""The reader of each dataset whose images stay files."""
