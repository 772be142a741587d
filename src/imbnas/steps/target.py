"""Step `target`: materialise the dataset for which an architecture is wanted, before any imbalance."""

from __future__ import annotations

import numpy as np

from imbnas.data.datasets import Dataset, Raw, native_shape, same_dataset
from imbnas.data.duplicates import first_occurrence
from imbnas.data.materialise import write_split
from imbnas.data.splits import Parts, target_parts
from imbnas.errors import UserError
from imbnas.params.target import TargetView
from imbnas.run.context import Context
from imbnas.steps.raw_files import open_dataset


def run(view: TargetView, context: Context) -> None:
    """Write the target's training, validation and test split; UserError names bad files or parameters."""
    params = view.target
    dataset = open_dataset("target", params, context)
    parts = _parts(view, dataset, context)
    shape = native_shape(params.dataset, params.image_size, params.channels)
    train = None
    for split, raw, rows in _splits(view, dataset, parts):
        info = write_split(
            context.path(f"target_{split}"),
            raw,
            rows,
            shape,
            dataset=params.dataset,
            split=split,
            root=params.root,
            photographs=dataset.photographs,
            train=train,
        )
        train = train or info
        context.log(f"{params.dataset} {split}: {info.rows} rows, digest {info.digest[:16]}")


def _parts(view: TargetView, dataset: Dataset, context: Context) -> Parts:
    """Draw from the training rows what the dataset does not publish and the source does not take."""
    params, source = view.target, view.source
    shared = same_dataset(params.dataset, context.root / params.root, source.dataset, context.root / source.root)
    published = params.validation.from_ == "published"
    if published and dataset.validation is None:
        raise UserError(
            f"target.validation.from: published, but {context.root / params.root} has no validation split "
            "(val_images), expected one, or reserve"
        )
    if dataset.validation is not None and not published:
        context.log(f"the published validation split is not used: target.validation.from is {params.validation.from_}")
    per_class = params.validation.per_class if params.validation.from_ == "reserve" else 0
    test_fraction = params.test_fraction if dataset.test is None else None
    if test_fraction is None:
        context.log(f"the published test split is used; target.test_fraction {params.test_fraction:g} does not apply")
    if params.validation.from_ == "reserve" and per_class == 0:
        context.log("no validation rows are reserved, as in the literature's cells; search will refuse to run")
    draws = shared or per_class > 0 or test_fraction is not None
    labels = dataset.train.labels
    return target_parts(
        labels,
        # Without a draw nothing can be separated from its copy, and the files need not be compared.
        first_occurrence(dataset.train) if draws else np.arange(len(labels)),
        dataset.train.classes,
        source_share=source.share if shared else None,
        test_fraction=test_fraction,
        per_class=per_class,
        seed=view.seed,
    )


def _splits(view: TargetView, dataset: Dataset, parts: Parts) -> list[tuple[str, Raw, np.ndarray]]:
    """Return name, raw split and rows of each split, training first."""
    train, validation, test = dataset.train, dataset.validation, dataset.test
    published = view.target.validation.from_ == "published"
    return [
        ("train", train, parts.train),
        ("validation", validation, np.arange(len(validation)))
        if published and validation is not None
        else ("validation", train, parts.validation),
        ("test", test, np.arange(len(test))) if test is not None else ("test", train, parts.test),
    ]
