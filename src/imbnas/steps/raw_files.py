"""Opens the dataset of a section, and notes which of its files were read, for whoever asks later what has changed."""

from __future__ import annotations

from imbnas.data import fingerprints
from imbnas.data.datasets import Dataset, load_dataset
from imbnas.params.dataset import DatasetParams
from imbnas.params.medmnist import MEDMNIST, stored_size
from imbnas.run.context import Context


def open_dataset(
    section: str, params: DatasetParams, context: Context, side: int, pixels: bool, hashes: bool = False
) -> Dataset:
    """Return the dataset of `section` ("source" or "target"), all its files read; UserError names what is wrong.

    `side` is that of the network's input in pixels. `pixels` has the digests of decoded images kept, `hashes`
    their perceptual hashes, see `load_dataset`.
    """
    root = context.root / params.root
    dataset = load_dataset(
        params.dataset,
        root,
        download=params.download,
        splits=params.named,
        verify=params.verify,
        max_pixels=params.max_pixels,
        section=section,
        pixels=pixels,
        hashes=hashes,
        medmnist=None if params.name is None else (params.name, stored_size(params.size, side)),
    )
    if params.name is not None:
        context.log(f"{params.name} is published under the licence {MEDMNIST[params.name].licence}")
    for line in dataset.notes:
        context.log(line)
    dataset, read, contents = fingerprints.read_dataset(params.dataset, root, dataset)
    fingerprints.note(context.root, context.path(f"{section}_train"), read, contents)
    return dataset
