"""Splits on disk as stores of images: what the training steps share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from imbnas.data.augment import Augment, load_side, resolve_augment
from imbnas.data.images import ImageStore
from imbnas.data.policy import Policy
from imbnas.data.raw import Shape
from imbnas.data.stored import Split, read_split
from imbnas.data.tail import read_longtail
from imbnas.errors import UserError
from imbnas.params.recipe import AugmentParams
from imbnas.run.context import Context
from imbnas.training.runtime import Runtime


@dataclass(frozen=True)
class Rows:
    """Some rows of a split: positions (int64) and their labels."""

    split: Split
    positions: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.positions)

    @property
    def counts(self) -> list[int]:
        """Return the rows of each class."""
        return [int(n) for n in np.bincount(self.labels, minlength=len(self.split.info.classes))]

    def at(self, places: np.ndarray) -> Rows:
        """Return the rows at `places` among these."""
        return Rows(self.split, self.positions[places], self.labels[places])

    def with_all(self, other: Rows) -> Rows:
        """Return these rows followed by others of the same classes and shape, maybe of another split."""
        if other.split.directory == self.split.directory:
            return Rows(
                self.split,
                np.concatenate([self.positions, other.positions]),
                np.concatenate([self.labels, other.labels]),
            )
        index = pd.concat([rows.split.index.iloc[rows.positions] for rows in (self, other)], ignore_index=True)
        images = None
        if self.split.images is not None and other.split.images is not None:
            images = np.concatenate([self.split.images[self.positions], other.split.images[other.positions]])
        info = dataclasses.replace(self.split.info, rows=len(index))
        joined = dataclasses.replace(self.split, images=images, index=index, info=info)
        return Rows(joined, np.arange(len(index)), index["label"].to_numpy())


def all_rows(context: Context, name: str) -> Rows:
    """Open the split called `name` in `graph.PATHS` and return all its rows."""
    split = read_split(context.path(name), context.root)
    return Rows(split, np.arange(len(split)), split.index["label"].to_numpy())


def read_tail(context: Context) -> tuple[Rows, Rows]:
    """Return the long-tailed training rows, and those held out of them for validation (none as a rule)."""
    split = read_split(context.path("target_train"), context.root)
    tail = read_longtail(context.path("longtail"), split.index["label"].to_numpy())
    train, validation = (Rows(split, *tail.part(held)) for held in (False, True))
    return train, validation


def validation_rows(context: Context, held_out: Rows) -> Rows:
    """Return the rows that judge subnets: the reserved or published ones, else those held out of the long tail."""
    reserved = all_rows(context, "target_validation")
    return reserved if len(reserved) else held_out


def read_validation(context: Context, held_out: Rows, wanted_by: str) -> Rows:
    """Return `validation_rows`, or raise UserError when there are none for the parameters that `wanted_by` names."""
    rows = validation_rows(context, held_out)
    if not len(rows):
        raise UserError(f"{context.path('target_validation')}: holds no rows, expected some for {wanted_by}")
    return rows


def side_of(split: Split) -> int:
    """Return the side in pixels at which a split's images are read; files may keep a margin for crops."""
    return load_side(split.info.resize or "exact", split.info.shape[0])


def make_store(rows: Rows, runtime: Runtime, context: Context) -> ImageStore:
    """Return the rows' images, on the device where they are an array."""
    # While the CPU trains, workers would compete with it; they pay off for image files, which wait for the disk.
    ahead = rows.split.info.kind == "paths" or runtime.device.type == "cuda"
    return ImageStore(rows.split, rows.positions, runtime.device, context.workers if ahead else 0, side_of(rows.split))


def make_augment(split: Split, params: AugmentParams | None) -> Augment:
    """Return the training augmentation with its `auto` values resolved for the split; None: evaluation only."""
    info = split.info
    shape = Shape(*info.shape)
    if params is None:
        return Augment(shape, "none", 0, False, 0, info.mean, info.std)
    resolved = resolve_augment(params.crop, params.pad, params.flip, info.photographs, info.kind, info.shape[0])
    policy = None if params.policy == "none" else Policy(params.policy, params.operations, params.magnitude)
    return Augment(shape, resolved.crop, resolved.pad, resolved.flip, params.cutout, info.mean, info.std, policy)


def image_meta(split: Split) -> dict[str, Any]:
    """Return what a network on disk must know of its images: classes, shape, preprocessing."""
    info = split.info
    return {
        "classes": list(info.classes),
        "shape": list(info.shape),
        "mean": list(info.mean),
        "std": list(info.std),
        "load_side": side_of(split),
        "photographs": info.photographs,
        "kind_of_images": info.kind,
        "dataset": info.dataset,
        **({} if info.resize is None else {"resize": info.resize, "exif_rotation": info.exif_rotation}),
    }
