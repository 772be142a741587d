"""The rows that `make gpu` trains on, packed as mosaics and unpacked as the splits that they were.

An image is packed once, at the largest size at which a split has it. What is unpacked are the same files that the steps
wrote: images are compared with the digest of their split. A training split of which only a long tail is used is
narrowed to it before.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from gpu_mosaics import read_mosaics, write_mosaics

from imbnas.data.class_sizes import index_digest
from imbnas.data.decode import convert_array
from imbnas.data.raw import Shape
from imbnas.data.stored import IMAGES, INDEX, INFO, array_digest, read_info, read_split, write_table
from imbnas.data.tail import LongTail, read_longtail, write_longtail
from imbnas.errors import UserError
from imbnas.files import read_json, write_json, write_with
from imbnas.run.graph import PATHS
from imbnas.truth.places import Table

LITERATURE = ("target_train", "target_validation", "target_test")
"""Splits of the literature's experiments, as `graph.PATHS` names them."""
CHAIN = ("longtail", "imbalance", "search", "search_facts", "front", "architecture", "handed")
"""Other files that `retrain` and `evaluate` read there."""
DESCRIBED = ("source_train", "source_validation")
"""Splits that `retrain` names as inputs and reads under `retrain.rows: all` alone: described, without images."""
TRUTH = "truth-"
"""Begins the names of the truth table's splits in a pack."""
POOLS = "pools.json"
DRAWN = ("digits",)
"""Datasets without a published test split: all of their rows are of one raw split."""


@dataclass(frozen=True)
class Pool:
    """Packed images: all of one raw split and one shape, by their row in it, ascending."""

    half: str
    shape: tuple[int, int, int]
    rows: np.ndarray

    @property
    def name(self) -> str:
        """The beginning of its files' names."""
        return f"{self.half}-{self.shape[0]}"

    def holds(self, rows: np.ndarray) -> np.ndarray:
        """Return for each of `rows` whether it is here."""
        return np.isin(rows, self.rows)


def chain_places(root: Path) -> dict[str, Path]:
    """Return where the literature's inputs lie below a directory, for `run_step`."""
    return {name: root / PATHS[name] for name in (*LITERATURE, *DESCRIBED, *CHAIN)}


def places_of(table: Table) -> dict[str, Path]:
    """Return where the truth table's rows lie, by their name in a pack; files of a condition among them."""
    found: dict[str, Path] = {}
    for condition in table.spec.conditions:
        files = table.files(condition)
        found |= {f"{TRUTH}{name}": files[name] for name in LITERATURE}
        found |= {f"{TRUTH}{condition}-{name}": files[name] for name in ("longtail", "imbalance")}
    return found


def pack(folder: Path, places: Mapping[str, Path]) -> dict[str, Any]:
    """Pack splits and files by name into a directory, and return what the loader says of each split."""
    splits = {name: place for name, place in places.items() if place.is_dir()}
    for name, place in places.items():
        target = folder / "splits" / name
        target.mkdir(parents=True, exist_ok=True)
        for file in [place / INDEX, place / INFO] if place.is_dir() else [place]:
            shutil.copy(file, target / file.name)
    images: dict[tuple[str, tuple[int, int, int]], dict[int, np.ndarray]] = {}
    for name in _largest_first(splits):
        split = read_split(splits[name])
        assert split.images is not None
        half, shape = _half(splits[name]), (*split.info.shape,)
        known = set().union(*(rows for (other, _), rows in images.items() if other == half))
        own = images.setdefault((half, shape), {})  # type: ignore[arg-type]
        for place, row in enumerate(split.index["row"].tolist()):
            if row not in known:
                own[row] = split.images[place]
    pools = {}
    for (half, shape), held in images.items():
        if held:
            pool = Pool(half, shape, np.array(sorted(held), dtype=np.int64))
            np.save(folder / "splits" / f"{pool.name}.npy", pool.rows.astype(np.int32))
            write_mosaics(folder / "mosaics", pool.name, np.stack([held[row] for row in pool.rows.tolist()]))
            pools[pool.name] = {"half": half, "shape": list(shape)}
    write_json(folder / "splits" / POOLS, pools)
    infos = {name: read_info(place) for name, place in splits.items()}
    return {name: {"rows": info.rows, "digest": info.digest} for name, info in infos.items()}


def unpack(folder: Path, places: Mapping[str, Path]) -> None:
    """Write the named splits and files of a pack to their places, where they are not yet.

    Raises UserError where the pack lacks one, or a split's images are not those of its digest.
    """
    pools = _pools(folder / "splits")
    cache: dict[str, np.ndarray] = {}
    for name, place in places.items():
        packed = folder / "splits" / name
        if not packed.is_dir():
            raise UserError(f"{packed}: not found, expected rows of `make gpu-pack`; make the pack again")
        if not (packed / INFO).is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(packed / place.name, place)
        elif not (place / INFO).is_file():
            _unpack_split(folder, packed, place, pools, cache)


def copy_files(folder: Path, places: Mapping[str, Path]) -> None:
    """Copy the literature's other files of a pack to their places."""
    for name in CHAIN:
        places[name].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "chain" / places[name].name, places[name])
    for name in DESCRIBED:
        places[name].mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "chain" / f"{name}.json", places[name] / INFO)


def narrow(train: Path, longtail: Path, imbalance: Path, into: Mapping[str, Path]) -> None:
    """Write a training split that holds the long tail's rows alone, in their order there, and the tail's files for it.

    Mean and deviation stay those of the whole split: a training on the tail is the same, bit for bit.
    """
    split = read_split(train)
    assert split.images is not None
    tail = read_longtail(longtail, split.index["label"].to_numpy())
    used = np.unique(tail.rows)
    rows = np.searchsorted(used, tail.rows)
    place = into["target_train"]
    place.mkdir(parents=True, exist_ok=True)
    images = np.ascontiguousarray(split.images[used])
    _save_images(place / IMAGES, images)
    write_table(place / INDEX, pq.read_table(train / INDEX).take(used))
    digest = array_digest(split.index["label"].to_numpy()[used], images).hexdigest()
    write_json(place / INFO, dataclasses.replace(split.info, rows=len(used), digest=digest).as_json())
    for name in ("longtail", "imbalance"):
        into[name].parent.mkdir(parents=True, exist_ok=True)
    write_longtail(into["longtail"], LongTail(rows, tail.labels, tail.validation))
    summary = read_json(imbalance, "the output of `imbnas imbalance`")
    write_json(into["imbalance"], {**summary, "digest": index_digest(rows), "target_digest": digest})


def _unpack_split(folder: Path, packed: Path, place: Path, pools: list[Pool], cache: dict[str, np.ndarray]) -> None:
    info, half = read_info(packed), _half(packed)
    rows = pq.read_table(packed / INDEX, columns=["row"])["row"].to_numpy()
    images = np.empty((info.rows, *info.shape), np.uint8)
    missing = np.ones(len(rows), bool)
    for pool in pools:
        if pool.half != half or pool.shape[0] < info.shape[0]:
            continue
        here = missing & pool.holds(rows)
        if here.any():
            if pool.name not in cache:
                cache[pool.name] = read_mosaics(folder / "mosaics", pool.name, (len(pool.rows), *pool.shape))
            found = cache[pool.name][np.searchsorted(pool.rows, rows[here])]
            images[here] = convert_array(found, Shape(*info.shape))
            missing &= ~here
    if missing.any():
        raise UserError(f"{packed}: {missing.sum()} of {len(rows)} images are not in the pack, make it again")
    place.mkdir(parents=True, exist_ok=True)
    _save_images(place / IMAGES, images)
    shutil.copy(packed / INDEX, place / INDEX)
    shutil.copy(packed / INFO, place / INFO)
    try:
        read_split(place)
    except UserError:
        (place / INFO).unlink()
        raise


def _pools(folder: Path) -> list[Pool]:
    """Return the packed images, the largest first."""
    found = read_json(folder / POOLS, "what `make gpu-pack` has packed")
    pools = [
        Pool(each["half"], tuple(each["shape"]), np.load(folder / f"{name}.npy").astype(np.int64))
        for name, each in found.items()
    ]
    return sorted(pools, key=lambda pool: -pool.shape[0])


def _largest_first(splits: Mapping[str, Path]) -> list[str]:
    return sorted(splits, key=lambda name: (-read_info(splits[name]).shape[0], name))


def _half(directory: Path) -> str:
    info = read_info(directory)
    return "test" if info.split == "test" and info.dataset not in DRAWN else "train"


def _save_images(file: Path, images: np.ndarray) -> None:
    """Write an .npy file as the steps do."""

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            np.lib.format.write_array(stream, images, version=(1, 0))

    write_with(file, write, images.nbytes)
