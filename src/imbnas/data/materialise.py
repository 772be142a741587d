"""Writing a split: its images, its index and, last of all, its description, each by rename."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imbnas.data.contents import CONTENT, PIXELS, contents, stored
from imbnas.data.decode import convert_array, decode_file
from imbnas.data.grouping import COLUMN
from imbnas.data.raw import Raw, Reading, Resize, Shape
from imbnas.data.stored import IMAGES, INDEX, INFO, Info, array_digest, write_table
from imbnas.data.verify import map_threaded
from imbnas.files import replacing, write_json

_CHUNK = 1024
_SAMPLED = 2000
_HEADER = 128


def write_split(
    directory: Path,
    raw: Raw,
    rows: np.ndarray,
    shape: Shape,
    *,
    dataset: str,
    split: str,
    root: str,
    photographs: bool,
    train: Info | None = None,
    resize: Resize = "exact",
    exif_rotation: bool = True,
    known: np.ndarray | None = None,
    overlap: dict[str, int] | None = None,
) -> Info:
    """Write the `rows` (int64, positions in `raw`, kept in this order) of a raw split to `directory`.

    Array images are converted to `shape`; files stay files, to be scaled to it when read. `train` is the description
    of the dataset's training split, whose mean and std this split repeats; None computes them from this split's own
    rows: exactly from all pixels, or for files from at most 2,000 evenly spaced ones. `root` is the parameter's text,
    `resize` and `exif_rotation` say how files are read, `known` is what `contents.contents` returns of the whole of
    `raw`, `overlap` see `split.Info`. Returns what `info.json` holds. Raises UserError naming an unreadable image.
    """
    # Without its description a split does not count: an interrupted rewrite is then no mixture of old and new.
    (directory / INFO).unlink(missing_ok=True)
    labels = raw.labels[rows]
    histogram = np.zeros((shape.channels, 256), dtype=np.int64)
    paths = None if raw.paths is None else [raw.paths[row] for row in rows.tolist()]
    images = contents(raw, rows) if known is None else known[rows]
    if paths is not None:
        digest = _digest_files(paths, labels, images)
        _write_images(directory / IMAGES, 0, shape, iter(()))
        if train is None:
            reading = Reading(shape.height, shape.channels, resize == "pad", exif_rotation)
            histogram = _sampled_histogram(raw.root, paths, reading)
    else:
        digest = _write_array(directory / IMAGES, raw, rows, shape, histogram)
    groups = None if raw.groups is None else [raw.groups[row] for row in rows.tolist()]
    digests = {CONTENT: images} | ({} if raw.pixels is None else {PIXELS: raw.pixels[rows]})
    write_index(directory / INDEX, {"label": labels, "row": rows}, paths, digests, groups)
    mean, std = (train.mean, train.std) if train is not None else statistics(histogram)
    files: dict[str, Any] = {} if paths is None else {"resize": resize, "exif_rotation": exif_rotation}
    info = Info(
        dataset=dataset,
        split=split,
        kind="array" if paths is None else "paths",
        root=None if paths is None else root,
        classes=raw.classes,
        shape=[shape.height, shape.width, shape.channels],
        rows=len(rows),
        mean=mean,
        std=std,
        photographs=photographs,
        digest=digest,
        overlap=overlap,
        **files,
    )
    write_json(directory / INFO, info.as_json())
    return info


def _write_array(file: Path, raw: Raw, rows: np.ndarray, shape: Shape, histogram: np.ndarray) -> str:
    """Write the rows' images, add them to `histogram`, and return the digest of labels and images."""
    state = array_digest(raw.labels[rows])
    _write_images(file, len(rows), shape, _chunks(raw, rows, shape, state, histogram))
    return state.hexdigest()


def statistics(histogram: np.ndarray) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel on the scale [0, 1] from counts (C, 256) of the values 0..255.

    The sums are exact integers, so the result does not depend on the order of summation. A constant channel gets the
    deviation 1, so that normalising by it is possible.
    """
    means, deviations = [], []
    for counts in histogram.tolist():
        total = sum(counts)
        first = sum(value * count for value, count in enumerate(counts))
        second = sum(value * value * count for value, count in enumerate(counts))
        means.append(first / (255 * total))
        deviations.append(math.sqrt(total * second - first * first) / (255 * total) or 1.0)
    return means, deviations


def write_index(
    file: Path,
    columns: dict[str, np.ndarray],
    paths: list[str] | None = None,
    digests: dict[str, np.ndarray] | None = None,
    groups: list[str] | None = None,
) -> None:
    """Write int64 columns, and if given string columns `path` and `group` and digests, as parquet.

    The file depends on values alone.
    """
    arrays = {name: pa.array(values.astype(np.int64, copy=False)) for name, values in columns.items()}
    if paths is not None:
        arrays["path"] = pa.array(paths, type=pa.string())
    if groups is not None:
        arrays[COLUMN] = pa.array(groups, type=pa.string())
    arrays |= {name: stored(values) for name, values in (digests or {}).items()}
    write_table(file, pa.table(arrays))


def _write_images(file: Path, count: int, shape: Shape, chunks: Iterator[np.ndarray]) -> None:
    """Write an .npy file of `count` images chunk by chunk, so that a large source never lies in memory as a whole."""
    full = (count, shape.height, shape.width, shape.channels)
    with replacing(file, wanted=math.prod(full) + _HEADER) as part, part.open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": full}
        np.lib.format.write_array_header_1_0(stream, header)
        for chunk in chunks:
            stream.write(chunk.tobytes())


def _chunks(
    raw: Raw, rows: np.ndarray, shape: Shape, state: hashlib._Hash, histogram: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the converted images in pieces, adding each to the digest `state` and to `histogram`."""
    assert raw.images is not None
    for start in range(0, len(rows), _CHUNK):
        chunk = convert_array(raw.images[rows[start : start + _CHUNK]], shape)
        state.update(chunk.tobytes())
        _count(histogram, chunk)
        yield chunk


def _count(histogram: np.ndarray, images: np.ndarray) -> None:
    for channel in range(images.shape[-1]):
        histogram[channel] += np.bincount(images[..., channel].ravel(), minlength=256)


def _digest_files(paths: list[str], labels: np.ndarray, images: np.ndarray) -> str:
    """Return a SHA-256 over paths, labels and contents: another image of as many bytes must not pass for the same."""
    state = hashlib.sha256()
    # Bytes, and not numpy's: those lose zeros at their end.
    raw = images.tobytes()
    for place, (path, label) in enumerate(zip(paths, labels.tolist(), strict=True)):
        content = raw[place * images.itemsize : (place + 1) * images.itemsize]
        state.update(f"{path}\0{label}\0{content.hex()}\n".encode())
    return state.hexdigest()


def _sampled_histogram(root: Path, paths: list[str], reading: Reading) -> np.ndarray:
    places = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _SAMPLED)).round().astype(np.int64))
    histogram = np.zeros((reading.channels, 256), dtype=np.int64)
    chosen = [paths[place] for place in places.tolist()]
    for image in map_threaded(lambda path: decode_file(root / path, reading), chosen):
        _count(histogram, image)
    return histogram
