"""Text files with lines `path label`, of up to ten million lines: read, and checked line by line."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imbnas.data.raw import relative_path
from imbnas.data.verify import KINDS, LONGEST, has_image_name
from imbnas.errors import UserError
from imbnas.files import LIST_LIMIT, open_regular

_CHUNK = 1 << 18
"""Bytes of a list that are read together: few enough to stay in the processor's cache."""
_LONGEST_LINE = 1 << 16
"""Bytes of a line: no system has longer paths."""
_DIGITS = 10
"""A label has fewer."""


@dataclass(frozen=True)
class Lines:
    """The rows of one list file, and the line number of each."""

    file: Path
    paths: list[str]
    labels: np.ndarray
    numbers: np.ndarray
    mark: str = ":"
    """Stands between the file's name and a number."""

    def where(self, index: int) -> str:
        """Return FILE:LINE of a row, or what stands for that."""
        return f"{self.file}{self.mark}{self.numbers[index]}"

    def place(self, index: int) -> str:
        """Return FILE:LINE and the path of a row."""
        return f"{self.where(index)}: {self.paths[index]}"

    def check_labels(self, classes: int) -> None:
        """Raise UserError for the first label outside 0..classes-1."""
        outside = np.flatnonzero(self.labels >= classes)
        if len(outside):
            index = int(outside[0])
            raise UserError(
                f"{self.where(index)}: label {self.labels[index]} is not in the training list, "
                f"expected 0..{classes - 1}"
            )


def read_lines(file: Path) -> Lines:
    """Read a list file; raise UserError that begins with FILE:LINE for a wrong line or path."""
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
    return Lines(file, paths, np.array(labels, dtype=np.int64), np.array(numbers, dtype=np.int64))


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
        words += (checked_path(f"{file}:{number}", path), word)
        rows.append(number)
    return words, np.array(rows, dtype=np.int64), len(lines)


def _label(file: Path, number: int, word: str) -> None:
    if not (word.isascii() and word.isdigit() and len(word) < _DIGITS):
        raise UserError(f"{file}:{number}: label {word!r}, expected a whole number from 0")


def checked_path(where: str, path: str) -> str:
    """Return the path of an image in its shortest form; UserError that begins with `where` for any other path."""
    # Millions of lines pass here: only odd ones pay for the full check.
    if not path or path.startswith(("/", ".")) or "//" in path or "/." in path or "\0" in path:
        try:
            path = relative_path(path)
        except ValueError as error:
            raise UserError(f"{where}: {path!r}: {error}") from None
    if not has_image_name(path):
        raise UserError(f"{where}: {path}: not an image by its name, expected {KINDS}")
    return path


def complete_classes(lines: Lines) -> list[str]:
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


def listed_twice(lines: Lines) -> UserError:
    """Return the error that names the first path which is listed twice."""
    first: dict[str, int] = {}
    for index, path in enumerate(lines.paths):
        if path in first:
            earlier = lines.numbers[first[path]]
            unit = lines.mark.strip(": ") or "line"
            return UserError(f"{lines.place(index)} is listed twice (before in {unit} {earlier}), expected once")
        first[path] = index
    raise AssertionError("no path is listed twice")
