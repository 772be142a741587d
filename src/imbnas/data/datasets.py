"""The registry of datasets: their names, their native image shape, and how each is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from imbnas.data.arrays import read_npz
from imbnas.data.builtin import load_digits, load_torchvision
from imbnas.data.contents import DIGESTS, image_digest
from imbnas.data.medmnist_files import read_medmnist
from imbnas.data.near_duplicates import as_words, perceptual_hash
from imbnas.data.own_images import READERS, Listing, endings
from imbnas.data.raw import Dataset, Raw, Shape
from imbnas.data.verify import SizeLimit, check_images, check_links, count_paged
from imbnas.errors import UserError
from imbnas.params.dataset import OWN_DATASETS, PUBLISHED
from imbnas.params.medmnist import MEDMNIST

__all__ = ["Dataset", "Raw", "Shape", "is_path_dataset", "load_dataset", "native_shape", "same_dataset"]


def is_path_dataset(name: str) -> bool:
    """Return whether the dataset's images stay files (`folder` and `list`)."""
    return name in READERS


def native_shape(name: str, image_size: int | None, channels: int | None) -> Shape:
    """Return the shape of the network's input for a dataset: its own, unless `image_size` or `channels` overrides it.

    `folder`, `list`, `npz` and `medmnist` have no size of their own (UserError without `image_size`) and default to 3
    channels.
    """
    native = PUBLISHED.get(name)
    if native is None and image_size is None:
        raise UserError(f"target.image_size: null for {name}, expected a number of pixels")
    height = image_size or (native.side if native else 0)
    width = image_size or (native.side if native else 0)
    return Shape(height, width, channels or (native.channels if native else 3))


def same_dataset(name: str, root: Path, other_name: str, other_root: Path) -> bool:
    """Return whether two parameters mean the same raw images, whatever way their roots are written."""
    if name != other_name:
        return False
    # A published dataset is the same wherever its files lie.
    return name not in OWN_DATASETS or root.resolve() == other_root.resolve()


def _mirrored(name: str) -> bool:
    """Return whether a mirrored image is a valid one; of the user's own photographs it is."""
    return name not in PUBLISHED or PUBLISHED[name].mirrored


def load_dataset(
    name: str,
    root: Path,
    *,
    download: bool = False,
    splits: Mapping[str, str | None] | None = None,
    verify: str = "full",
    max_pixels: int | None = None,
    section: str = "target",
    pixels: bool = False,
    hashes: bool = False,
    medmnist: tuple[str, int] | None = None,
) -> Dataset:
    """Return a dataset's published splits.

    `root` is the directory of its raw files; `splits` maps train, validation and test to names below it, and groups and
    class_names (`folder` and `list` only). Images of path datasets are checked now: only their headers, or decoded when
    `verify` is "full"; none may have more than `max_pixels`. `pixels` has the digests of decoded images kept, `hashes`
    their perceptual hashes, which needs "full". `medmnist` is the name and size of one of MedMNIST's. `section`
    ("source" or "target") is named in messages. Raises UserError when files are missing, corrupt, or fewer than two
    classes remain.
    """
    if name in READERS:
        size = None if max_pixels is None else SizeLimit(max_pixels, f"{section}.max_pixels")
        listings = READERS[name](root, dict(splits or {}), section)
        dataset = _load_files(name, root, listings, verify == "full", size, pixels, hashes)
    elif name == "npz":
        found = read_npz(root, section)
        assert found["train"] is not None
        dataset = Dataset(found["train"], found["validation"], found["test"], _mirrored(name))
    elif medmnist is not None:
        found = read_medmnist(*medmnist, root, download, section)
        assert found["train"] is not None
        mirrored = MEDMNIST[medmnist[0]].mirrored
        dataset = Dataset(found["train"], found["validation"], found["test"], mirrored)
    elif name == "digits":
        dataset = Dataset(load_digits(root), None, None, _mirrored(name))
    else:
        train, test = load_torchvision(name, root, download, section)
        dataset = Dataset(train, None, test, _mirrored(name))
    check_classes(dataset.train, root, section)
    return dataset


def check_classes(train: Raw, root: Path, section: str) -> None:
    """Raise UserError where there is one class; where it is a directory of directories, these may be meant."""
    if len(train.classes) > 1:
        return
    (name,) = train.classes
    inner = {path.split("/")[1] for path in train.paths or [] if path.startswith(f"{name}/") and path.count("/") > 1}
    hint = f", or the directories in {root / name} as classes, so that this is the root" if len(inner) > 1 else ""
    raise UserError(f"{section}.dataset: {root} holds one class, expected at least two{hint}")


def _all_of(looks: Sequence[Callable[[Image.Image], bytes]]) -> Callable[[Image.Image], bytes]:
    """Return what makes the bytes of several looks at an image, one after the other."""
    return lambda image: b"".join(look(image) for look in looks)


def _load_files(
    name: str,
    root: Path,
    listings: Mapping[str, Listing | None],
    full: bool,
    size: SizeLimit | None,
    pixels: bool,
    hashes: bool,
) -> Dataset:
    """Return the splits of a dataset of files, each file checked."""
    raws: dict[str, Raw] = {}
    paged = 0
    for split, listing in listings.items():
        if listing is None:
            continue
        paths = listing.raw.paths or []
        looks = [image_digest] * pixels + [perceptual_hash] * hashes
        seen = check_images(root, paths, full, listing.place, size, _all_of(looks) if looks else None)
        end = DIGESTS.itemsize * pixels
        raws[split] = dataclasses.replace(
            listing.raw,
            pixels=np.array([look[:end] for look in seen], dtype=DIGESTS) if pixels and full else None,
            hashes=as_words([look[end:] for look in seen]) if hashes and full else None,
        )
        check_links(root, paths, listing.raw.labels.tolist(), listing.place)
        paged += count_paged(root, paths)
    tables = [table for listing in listings.values() if listing is not None for table in listing.unread]
    notes = [f"{file}: columns that are not read: {', '.join(names)}" for file, names in tables]
    passed_over = [path for listing in listings.values() if listing is not None for path in listing.passed_over]
    if passed_over:
        kinds = endings(passed_over)
        notes.append(f"{root}: {len(passed_over)} files are not images by their names and are passed over ({kinds})")
    if paged:
        notes.append(f"{root}: {paged} images have several pages or frames, of which the first is read")
    return Dataset(raws["train"], raws.get("validation"), raws.get("test"), _mirrored(name), tuple(notes))
