"""Step `source`: materialise the balanced dataset on which the supernet is trained, in the target's shape."""

from __future__ import annotations

import numpy as np

from imbnas.data.checkpoint_file import checkpoint_meta, is_checkpoint
from imbnas.data.datasets import is_path_dataset, native_shape
from imbnas.data.duplicates import first_occurrence
from imbnas.data.grouping import with_groups
from imbnas.data.materialise import write_split
from imbnas.data.partition import few, source_parts
from imbnas.data.raw import Raw, Shape, resize_rule
from imbnas.data.stored import Info
from imbnas.data.supernet_file import reused_meta
from imbnas.params.dataset import PUBLISHED
from imbnas.params.source import SourceView
from imbnas.run.context import Context
from imbnas.steps.raw_files import open_dataset


def run(view: SourceView, context: Context) -> None:
    """Write the source's training and validation split; UserError names what is wrong with files or parameters."""
    params, target = view.source, view.target
    if view.supernet.reuse is not None:
        _write_empty(view.supernet.reuse, target.dataset, context)
        return
    shape = native_shape(target.dataset, target.image_size, target.channels)
    pixels = is_path_dataset(params.dataset) and not is_path_dataset(target.dataset)
    dataset = open_dataset("source", params, context, shape.height, pixels)
    first = first_occurrence(dataset.train)
    raw, groups = with_groups(dataset.train, first)
    parts = source_parts(
        raw.labels,
        first,
        raw.classes,
        share=params.share,
        per_class=params.validation.per_class,
        seed=params.seed,
        groups=groups,
    )
    warning = few(raw.labels[parts.validation], raw.classes)
    if warning:
        context.log(warning)
    train = None
    for split, rows in (("train", parts.train), ("validation", parts.validation)):
        info = write_split(
            context.path(f"source_{split}"),
            raw,
            rows,
            shape,
            dataset=params.title,
            split=split,
            root=params.root,
            photographs=dataset.photographs,
            train=train,
            resize=resize_rule(params.resize, shape.height),
            exif_rotation=params.exif_rotation,
        )
        train = train or info
        context.log(f"{params.title} {split}: {info.rows} rows, digest {info.digest[:16]}")


def _write_empty(file: str, target: str, context: Context) -> None:
    """Write splits without rows, with classes, shape and normalisation of the supernet that is taken from `file`."""
    path = context.root / file
    meta = checkpoint_meta() if is_checkpoint(path) else reused_meta(path)
    shape = Shape(*meta["shape"])
    info = Info(
        dataset=meta["dataset"],
        split="train",
        kind="array",
        root=None,
        classes=meta["classes"],
        shape=meta["shape"],
        rows=0,
        mean=meta["mean"],
        std=meta["std"],
        photographs=bool(meta.get("photographs")),
        digest="",
    )
    none = np.zeros(0, dtype=np.int64)
    raw = Raw(none, info.classes, np.zeros((0, *info.shape), dtype=np.uint8), None, context.root)
    for split in ("train", "validation"):
        write_split(
            context.path(f"source_{split}"),
            raw,
            none,
            shape,
            dataset=info.dataset,
            split=split,
            root="",
            photographs=info.photographs,
            train=info,
        )
    context.log(f"no rows and no raw files: {file} was trained on {info.dataset} in another project")
    if info.dataset == target and target in PUBLISHED:
        context.log(
            f"warning: {file} was trained on rows of {target}, and so is the target: validation and test rows may be "
            "among them, which nothing here can tell"
        )
    else:
        context.log(f"the images on which {file} was trained are not here: none is compared with the target's")
