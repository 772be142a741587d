"""Opens the dataset of a section, and notes which of its files were read, for whoever asks later what has changed."""

from __future__ import annotations

from imbnas.data import fingerprints
from imbnas.data.datasets import Dataset, load_dataset
from imbnas.params.dataset import DatasetParams
from imbnas.run.context import Context


def open_dataset(section: str, params: DatasetParams, context: Context, pixels: bool) -> Dataset:
    """Return the dataset of `section` ("source" or "target"), all its files read; UserError names what is wrong.

    `pixels` has the digests of decoded images kept, see `load_dataset`.
    """
    root = context.root / params.root
    dataset = load_dataset(
        params.dataset,
        root,
        download=params.download,
        splits=params.splits.model_dump(),
        verify=params.verify,
        max_pixels=params.max_pixels,
        section=section,
        pixels=pixels,
    )
    for line in dataset.notes:
        context.log(line)
    dataset, read, contents = fingerprints.read_dataset(params.dataset, root, dataset)
    fingerprints.note(context.root, context.path(f"{section}_train"), read, contents)
    return dataset
