"""The long tail: how many rows each class keeps, and which.

The profiles and the choice of rows are those of LDAM-DRW (Cao et al. 2019), which the CIFAR-LT literature shares:
counts are truncated, not rounded, and with seed 0 the rows are the published CIFAR-10-LT and CIFAR-100-LT subsets.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from imbnas.errors import UserError
from imbnas.files import RECORD_LIMIT, read_text
from imbnas.seeds import stream

SHAPED = ("exponential", "step", "pareto")


def inverse_ratio(ratio: float) -> float:
    """Return n_min / n_max in (0, 1] for an imbalance ratio in either orientation: 100 and 0.01 mean the same."""
    if not (ratio > 0 and math.isfinite(ratio)):
        raise UserError(f"imbalance.ratio: found {ratio}, expected a finite number above 0")
    return ratio if ratio <= 1 else 1 / ratio


def exponential(n_max: int, ratio: float, classes: int) -> np.ndarray:
    """Return int(n_max * r^(k / (C-1))) for the ranks k = 0..C-1, with r = n_min / n_max (Cui et al. 2019)."""
    return _truncated(n_max, ratio, [k / (classes - 1.0) for k in range(classes)])


def step(n_max: int, ratio: float, classes: int) -> np.ndarray:
    """Return n_max for the first C//2 ranks and int(n_max * r) for all others (Buda et al. 2018).

    With an odd C the middle class belongs to the small ones; the reference code loses a class there.
    """
    return _truncated(n_max, ratio, [0.0 if k < classes // 2 else 1.0 for k in range(classes)])


def pareto(n_max: int, ratio: float, classes: int) -> np.ndarray:
    """Return int(n_max * (k+1)^-g) for the ranks k, a power law; g = ln(ratio) / ln(C) meets the ratio at k = C-1."""
    return _truncated(n_max, ratio, [math.log(k + 1) / math.log(classes) for k in range(classes)])


def _truncated(n_max: int, ratio: float, exponents: list[float]) -> np.ndarray:
    # Python's power, not numpy's: the published counts hang on the last bit where a product falls on an integer.
    inverse = inverse_ratio(ratio)
    return np.array([int(n_max * inverse**exponent) for exponent in exponents], dtype=np.int64)


_PROFILES = {"exponential": exponential, "step": step, "pareto": pareto}


def from_file(file: Path, classes: Sequence[str]) -> np.ndarray:
    """Return the counts in a text file with one whole number per line, in label order; blank lines are skipped.

    Raises UserError naming FILE:LINE of a wrong line, or the file when its number of lines is not that of the classes.
    """
    try:
        lines = read_text(file, RECORD_LIMIT, "utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}, expected a text file with one count per class") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    counts = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0):
            raise UserError(f"{file}:{number}: found {text[:40]!r}, expected a whole number of at least 1")
        counts.append(int(text))
    if len(counts) != len(classes):
        raise UserError(f"{file}: {len(counts)} counts, expected {len(classes)}, one per class")
    return np.array(counts, dtype=np.int64)


def class_counts(
    profile: str,
    ratio: float,
    available: np.ndarray,
    n_max: int | None = None,
    order: str = "native",
    seed: int = 0,
    file: Path | None = None,
    classes: Sequence[str] | None = None,
) -> np.ndarray:
    """Return how many rows each class keeps: int64 (C,) in label order.

    `available` (C,) are the rows of each class; `n_max` None takes the largest for which every class has enough;
    `order` "native", "reversed" or "shuffled" (by `seed`) says which class is the head; `file` serves the profile
    "counts". The profile "natural" keeps every row; `classes` names them in messages, by index unless given. Raises
    UserError naming the parameter and the class that has too few rows, or that would keep none.
    """
    classes = [str(k) for k in range(len(available))] if classes is None else classes
    if profile == "natural":
        return available.astype(np.int64)
    if profile == "counts":
        if file is None:
            raise UserError("imbalance.counts: null, expected a file for the profile counts")
        counts = from_file(file, classes)
        _check_available(counts, available, classes, str(file))
        return counts
    rank = _ranks(order, len(available), seed)
    shape = _PROFILES[profile]
    if n_max is None:
        n_max = _largest(
            lambda size: bool((shape(size, ratio, len(rank))[rank] <= available).all()), int(available.max())
        )
    counts = shape(n_max, ratio, len(rank))[rank]
    _check_available(counts, available, classes, f"imbalance.n_max {n_max}")
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise UserError(
            f"imbalance.ratio: {ratio:g} with {n_max} rows in the largest class leaves class {classes[empty[0]]!r} "
            f"without a row, expected at most {n_max} (or its inverse)"
        )
    return counts


def _ranks(order: str, classes: int, seed: int) -> np.ndarray:
    """Return each class's place from head (0) to tail."""
    if order == "shuffled":
        return stream(seed, "imbalance", "order").permutation(classes)
    rank = np.arange(classes)
    return rank[::-1] if order == "reversed" else rank


def _largest(fits: Callable[[int], bool], high: int) -> int:
    """Return the largest size in 1..high that `fits`, which holds for all sizes below one that it holds for."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _check_available(counts: np.ndarray, available: np.ndarray, classes: Sequence[str], what: str) -> None:
    short = np.flatnonzero(counts > available)
    if len(short):
        k = int(short[0])
        raise UserError(f"{what}: class {classes[k]!r} needs {counts[k]} rows and has {available[k]}, expected enough")


def choose_rows(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """Return the kept rows (int64), class by class in label order, each class's in random order.

    Each class's ascending rows are shuffled in full by one MT19937 stream seeded with `seed`, class after class, and
    the first `counts[k]` kept, as LDAM-DRW does after np.random.seed(0): with equal seeds, smaller counts choose
    subsets of what larger counts choose. Needs O(N log N) time; numpy's global generator is left alone.
    """
    random = np.random.RandomState(seed)
    # 16-bit keys sort by radix: 10 million labels in a fifth of a second.
    keys = labels.astype(np.uint16) if len(counts) <= 1 << 16 else labels
    order = np.argsort(keys, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(counts)))
    kept = []
    for start, end, count in zip([0, *ends[:-1]], ends, counts.tolist(), strict=True):
        rows = order[start:end]
        random.shuffle(rows)
        kept.append(rows[:count])
    return np.concatenate(kept).astype(np.int64, copy=False)


def index_digest(rows: np.ndarray) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 over `rows` as little-endian int64."""
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:16]
