"""Step `target`: materialise the dataset for which an architecture is wanted, before any imbalance."""

from __future__ import annotations

import numpy as np

from imbnas.data.contents import contents, first_of
from imbnas.data.datasets import Dataset, Raw, is_path_dataset, native_shape, same_dataset
from imbnas.data.grouping import with_groups
from imbnas.data.materialise import write_split
from imbnas.data.partition import Parts, few, target_parts
from imbnas.data.published_rows import published_validation
from imbnas.data.raw import resize_rule
from imbnas.data.stored import INFO, Info, read_info
from imbnas.errors import UserError
from imbnas.params.target import TargetView
from imbnas.run.context import Context
from imbnas.steps.look_alikes import tell_look_alikes
from imbnas.steps.overlap import Known, incomparable, same_as, source_contents
from imbnas.steps.raw_files import open_dataset

LIMIT = 0.001
"""Largest share of a published test split that the source may have: published datasets have single images in common."""


def run(view: TargetView, context: Context) -> None:
    """Write the target's training, validation and test split; UserError names bad files or parameters."""
    params = view.target
    source_files = is_path_dataset(view.source.dataset)
    known = source_contents(context, source_files)
    pixels = is_path_dataset(params.dataset) and not source_files and not known.empty
    dataset = open_dataset("target", params, context, params.shape[0], pixels, params.compares_looks)
    unknown = incomparable(known, dataset.train)
    if unknown:
        context.log(
            f"warning: {unknown} is headers: files and arrays are not compared, source and target may share images"
        )
    raws: dict[str, Raw | None] = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    digests = {split: contents(raw) for split, raw in raws.items() if raw is not None}
    first = first_of(digests["train"])
    train_raw, groups = with_groups(dataset.train, first)
    parts = _parts(view, dataset, digests["train"], first, groups, known, context)
    raws["train"] = train_raw
    rows, overlap = _rows(view, dataset, digests, known, parts)
    _tell(overlap, groups is not None, context)
    near = tell_look_alikes(params, raws, rows, first, context)
    overlap |= {"near": near} if near else {}
    shape = native_shape(params.dataset, params.image_size, params.channels)
    reused = _of_reused(known, context)
    train = None
    for split, (name, chosen) in rows.items():
        raw = raws[name]
        assert raw is not None
        info = write_split(
            context.path(f"target_{split}"),
            raw,
            chosen,
            shape,
            dataset=params.title,
            split=split,
            root=params.root,
            photographs=dataset.photographs,
            train=train or reused,
            resize=resize_rule(params.resize, shape.height),
            exif_rotation=params.exif_rotation,
            known=digests[name],
            overlap=overlap if split == "test" and any(overlap.values()) else None,
        )
        train = train or info
        context.log(f"{params.title} {split}: {info.rows} rows, digest {info.digest[:16]}")


def _of_reused(known: Known, context: Context) -> Info | None:
    """Return the description whose normalisation the target takes: that of a reused supernet, else none."""
    # Without a description there is an index that lists no image, and nothing to be normalised by.
    directory = context.path("source_train")
    if not known.empty or not (directory / INFO).exists():
        return None
    found = read_info(directory)
    context.log(f"normalised as the reused supernet's images ({found.dataset})")
    return found


def _parts(
    view: TargetView,
    dataset: Dataset,
    digests: np.ndarray,
    first: np.ndarray,
    groups: np.ndarray | None,
    known: Known,
    context: Context,
) -> Parts:
    """Draw from the training rows what the dataset does not publish and the source does not have."""
    params, source = view.target, view.source
    # Other directories or lists below one root may have images in common; then it is their contents that tell.
    # A source without rows takes none from the target.
    shared = (
        not known.empty
        and params.splits.train == source.splits.train
        and params.name == source.name
        and same_dataset(params.dataset, context.root / params.root, source.dataset, context.root / source.root)
    )
    published = params.validation.from_ == "published"
    if published and dataset.validation is None:
        raise UserError(
            f"target.validation.from: published, but {context.root / params.root} has no validation split "
            "(val_images, or rows of it in the column split), expected one, or reserve"
        )
    if dataset.validation is not None and not published:
        context.log(f"the published validation split is not used: target.validation.from is {params.validation.from_}")
    per_class = params.validation.per_class if params.validation.from_ == "reserve" else 0
    test_fraction = params.test_fraction if dataset.test is None else None
    if test_fraction is None:
        context.log(f"the published test split is used; target.test_fraction {params.test_fraction:g} does not apply")
    if params.validation.from_ == "reserve" and per_class == 0:
        context.log("no validation rows are reserved, as in the literature's cells; search will refuse to run")
    parts = target_parts(
        dataset.train.labels,
        first,
        dataset.train.classes,
        source_share=source.share if shared else None,
        source_seed=source.seed,
        test_fraction=test_fraction,
        per_class=per_class,
        seed=params.seed,
        taken=same_as(known, dataset.train, digests),
        groups=groups,
    )
    if groups is not None:
        context.log(f"{len(np.unique(groups))} groups of {len(groups)} images, which no split parts")
    warning = few(dataset.train.labels[parts.validation], dataset.train.classes)
    if warning:
        context.log(warning)
    return parts


def _rows(
    view: TargetView,
    dataset: Dataset,
    digests: dict[str, np.ndarray],
    known: Known,
    parts: Parts,
) -> tuple[dict[str, tuple[str, np.ndarray]], dict[str, int]]:
    """Return for each split the raw split and its rows, training first, and what is in several (`Info.overlap`)."""
    rows = {"train": ("train", parts.train), "validation": ("train", parts.validation), "test": ("train", parts.test)}
    overlap = {"train": parts.dropped, "validation": 0, "source": 0, "training": 0}
    if view.target.validation.from_ == "published" and dataset.validation is not None:
        left_out = same_as(known, dataset.validation, digests["validation"])
        left_out |= np.isin(digests["validation"], digests["train"][parts.test])
        raws = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
        rows["validation"] = ("validation", published_validation(left_out, digests, raws))
        overlap["validation"] = len(dataset.validation) - len(rows["validation"][1])
    if dataset.test is not None:
        rows["test"] = ("test", np.arange(len(dataset.test)))
        trained = np.concatenate([digests[name][chosen] for name, chosen in (rows["train"], rows["validation"])])
        in_source = same_as(known, dataset.test, digests["test"])
        overlap["source"] = int(in_source.sum())
        overlap["training"] = int(np.isin(digests["test"], trained).sum())
        _check_test(dataset.test, in_source)
    return rows, overlap


def _check_test(test: Raw, in_source: np.ndarray) -> None:
    """Refuse a source that has too much of a published test split."""
    count = int(in_source.sum())
    if count > LIMIT * len(test):
        row = int(np.argmax(in_source))
        first = test.paths[row] if test.paths is not None else f"row {row}"
        raise UserError(
            f"source.dataset: the source has {count} of the target's {len(test)} published test images (the first: "
            f"{first}), expected at most {LIMIT:.1%}: name other images (source.root, source.splits.train)"
        )


def _tell(overlap: dict[str, int], grouped: bool, context: Context) -> None:
    """Log what splits have in common."""
    for split in ("train", "validation"):
        if overlap[split]:
            beside = "" if split == "train" else ", the training or the test split" if grouped else " or the test split"
            what = "images or groups" if grouped else "images"
            context.log(f"{split}: {overlap[split]} rows left out, whose {what} the source{beside} has too")
    for other, name in (("source", "the source"), ("training", "the training and validation rows")):
        if overlap[other]:
            context.log(f"warning: {overlap[other]} of the published test rows are among {name} too; they are kept")
