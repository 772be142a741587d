"""A materialised split as other steps read it: `images.npy`, `index.parquet`, `info.json`, checked against each other.

`images.npy` is uint8 (N, H, W, C); for path datasets it has no rows, since images stay files. `index.parquet` has the
columns label, row (position in the raw split), digest (of the image's content, see `contents.py`), for path datasets
path, pixels (the digest of the decoded image) where files are to be compared with arrays, and group where the dataset
has groups. `info.json` is written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imbnas.data.raw import Reading, Resize, relative_path
from imbnas.errors import UserError
from imbnas.files import TABLE_LIMIT, check_regular, read_json, write_with

if TYPE_CHECKING:
    import pandas as pd

IMAGES, INDEX, INFO = "images.npy", "index.parquet", "info.json"


@dataclass(frozen=True)
class Info:
    """The content of a split's `info.json`.

    `kind` is "array" or "paths"; `root` is the parameter's text for path datasets, else None; `shape` is [H, W, C] of
    the network's input; `mean` and `std` are per channel on the scale [0, 1], of this dataset's training split;
    `digest` is a SHA-256 over labels and images (arrays), or over paths, labels and files. `overlap` is the target's,
    at its test split, and None where there is none: rows of its splits that were left out because the source (or the
    test split drawn for it) has the image too (`train`, `validation`), and rows of a published test split that were
    kept although the source has them (`source`), or the training or validation rows do (`training`);
    and where there are any, test rows that look like a row of another split (`near`).
    `resize` and `exif_rotation` say how files are read, and are None for arrays.
    """

    dataset: str
    split: str
    kind: str
    root: str | None
    classes: list[str]
    shape: list[int]
    rows: int
    mean: list[float]
    std: list[float]
    photographs: bool
    digest: str
    overlap: dict[str, int] | None = None
    resize: Resize | None = None
    exif_rotation: bool | None = None

    def reading(self, side: int) -> Reading:
        """Return how the split's files are read as squares of `side` pixels."""
        return Reading(side, self.shape[2], pad=self.resize == "pad", upright=self.exif_rotation is not False)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object; what is None, such as `root` where images are an array, is left out."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Split:
    """An open split: `images` memory-mapped (None for path datasets, whose files lie below `root`), `index`, `info`."""

    directory: Path
    images: np.ndarray | None
    index: pd.DataFrame
    info: Info
    root: Path | None

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.info.rows


def read_split(directory: Path, base: Path | None = None) -> Split:
    """Open the split in `directory`; `base` is the project directory to which the root of its images is relative.

    Without `base` that is the working directory. Raises UserError naming the file that is missing, truncated, foreign,
    or at odds with the others: images and labels of an array are compared with the digest in `info.json`, which costs
    0.1 s per 150 MB. Images that stay files are not read here.
    """
    info = read_info(directory)
    columns = ["label", "row"] + (["path"] if info.kind == "paths" else [])
    table = _read_index(directory, info, columns + [name for name in ("group",) if has_column(directory / INDEX, name)])
    images = _open_images(directory / IMAGES, info)
    root = None
    if info.root is not None:
        root = (base or Path()) / info.root
        _check_paths(directory / INDEX, table["path"])
    if images is not None and array_digest(table["label"].to_numpy(), images).hexdigest() != info.digest:
        raise UserError(
            f"{directory / IMAGES}: images or labels are not those whose digest {INFO} holds, expected the files as "
            "they were written; make the split again"
        )
    return Split(directory, images, table.to_pandas(), info, root)


def array_digest(labels: np.ndarray, images: np.ndarray | None = None) -> hashlib._Hash:
    """Return the state of the SHA-256 over labels (N,) and images, all or none: whoever has pieces adds them."""
    state = hashlib.sha256(labels.astype("<i8").tobytes())
    if images is not None:
        state.update(np.ascontiguousarray(images).data)
    return state


def read_labels(directory: Path) -> tuple[np.ndarray, Info]:
    """Return the labels (int64, (N,)) and info of a split without opening its images; raises as `read_split`."""
    info = read_info(directory)
    return _read_index(directory, info, ["label"])["label"].to_numpy(), info


def read_info(directory: Path) -> Info:
    """Return the checked `info.json` of a split, or raise UserError naming the file."""
    file = directory / INFO
    value = read_json(file, "the description of a finished split")
    try:
        info = Info(**{"root": None, **value})
        _check_info(info)
    except (TypeError, ValueError) as error:
        raise UserError(f"{file}: not the description of a split ({error}), expected one that imbnas wrote") from None
    return info


def _check_info(info: Info) -> None:
    channels = len(info.mean)
    problems = {
        "kind": info.kind not in ("array", "paths") or (info.kind == "paths") != isinstance(info.root, str),
        "classes": not all(isinstance(name, str) for name in info.classes) or len(info.classes) < 2,
        "shape": len(info.shape) != 3 or info.shape[2] != channels or min(info.shape) < 1,
        "rows": type(info.rows) is not int or info.rows < 0,
        "mean": not all(isinstance(value, float) for value in info.mean),
        "std": len(info.std) != channels or min(info.std) <= 0,
        "digest": len(info.digest) != 64,
        "resize": info.resize not in (None, *get_args(Resize)),
        "exif_rotation": info.exif_rotation not in (None, False, True),
    }
    wrong = [name for name, bad in problems.items() if bad]
    if wrong:
        raise ValueError(f"{wrong[0]} is {getattr(info, wrong[0])!r}")


def _open_images(file: Path, info: Info) -> np.ndarray | None:
    expected = (info.rows if info.kind == "array" else 0, *info.shape)
    try:
        check_regular(file)
        images = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{file}: not found, expected uint8 images {expected}") from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{file}: {os.strerror(error.errno)}, expected uint8 images {expected}") from None
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: truncated or not an .npy file ({reason}), expected uint8 {expected}") from None
    if not isinstance(images, np.memmap) or images.dtype != np.uint8 or images.shape != expected:
        raise UserError(
            f"{file}: found {images.dtype} {images.shape}, expected uint8 {expected} as {INFO} says"
            if isinstance(images, np.ndarray)
            else f"{file}: not an .npy file, expected uint8 {expected}"
        )
    return images if info.kind == "array" else None


def _read_index(directory: Path, info: Info, columns: list[str]) -> pa.Table:
    file = directory / INDEX
    table = read_columns(file, {name: pa.string() if name in ("path", "group") else pa.int64() for name in columns})
    if table.num_rows != info.rows:
        raise UserError(f"{file}: {table.num_rows} rows, expected {info.rows} as {INFO} says")
    if info.rows:
        low, high = pc.min_max(table["label"]).as_py().values()
        if low < 0 or high >= len(info.classes):
            raise UserError(f"{file}: labels from {low} to {high}, expected 0..{len(info.classes) - 1}")
    return table


def has_column(file: Path, column: str) -> bool:
    """Return whether a parquet file has a column; no, where it cannot be read."""
    try:
        check_regular(file, TABLE_LIMIT)
        return column in pq.ParquetFile(file).schema_arrow.names
    except (pa.ArrowException, OSError, UserError):
        return False


def read_columns(file: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    """Return the named columns of a parquet file; UserError names the file when it lacks one, or a value is null."""
    try:
        # Not pq.read_table: it would take directory names like `seed=1` for columns.
        check_regular(file, TABLE_LIMIT)
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        for name, kind in columns.items():
            if name not in schema.names or schema.field(name).type != kind:
                found = schema.field(name).type if name in schema.names else "none"
                raise UserError(f"{file}: column {name!r} is {found}, expected {kind}")
        table = parquet.read(columns=list(columns))
    except FileNotFoundError:
        raise UserError(f"{file}: not found, expected a parquet file with columns {', '.join(columns)}") from None
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(
                f"{file}: {os.strerror(error.errno)}, expected a parquet file with columns {', '.join(columns)}"
            ) from None
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file}: truncated or not parquet ({reason})") from None
    for name in columns:
        if table[name].null_count:
            raise UserError(f"{file}: column {name!r} has {table[name].null_count} empty values, expected none")
    return table


def write_table(file: Path, table: pa.Table) -> None:
    """Write a table as parquet by rename: fixed options, no metadata."""
    options = {"compression": "zstd", "version": "2.6", "row_group_size": 1 << 20, "store_schema": False}
    write_with(file, lambda part: pq.write_table(table.replace_schema_metadata(None), part, **options), table.nbytes)


def _check_paths(file: Path, paths: pa.ChunkedArray) -> None:
    """Refuse an index whose paths leave the images' root."""
    odd = pc.filter(paths, pc.match_substring_regex(paths, r"^/|^\.|//|/\.|\x00|^$"))
    for path in odd.to_pylist():
        try:
            relative_path(path)
        except ValueError as error:
            raise UserError(f"{file}: path {path!r}: {error}") from None
