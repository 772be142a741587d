"""Step `source`: materialise the balanced dataset on which the supernet is trained, in the target's shape."""

from __future__ import annotations

from imbnas.data.datasets import is_path_dataset, native_shape
from imbnas.data.duplicates import first_occurrence
from imbnas.data.materialise import write_split
from imbnas.data.partition import few, source_parts
from imbnas.data.raw import resize_rule
from imbnas.params.source import SourceView
from imbnas.run.context import Context
from imbnas.steps.raw_files import open_dataset


def run(view: SourceView, context: Context) -> None:
    """Write the source's training and validation split; UserError names what is wrong with files or parameters."""
    params, target = view.source, view.target
    shape = native_shape(target.dataset, target.image_size, target.channels)
    pixels = is_path_dataset(params.dataset) and not is_path_dataset(target.dataset)
    dataset = open_dataset("source", params, context, pixels)
    raw = dataset.train
    parts = source_parts(
        raw.labels,
        first_occurrence(raw),
        raw.classes,
        share=params.share,
        per_class=params.validation.per_class,
        seed=params.seed,
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
            dataset=params.dataset,
            split=split,
            root=params.root,
            photographs=dataset.photographs,
            train=train,
            resize=resize_rule(params.resize, shape.height),
            exif_rotation=params.exif_rotation,
        )
        train = train or info
        context.log(f"{params.dataset} {split}: {info.rows} rows, digest {info.digest[:16]}")
