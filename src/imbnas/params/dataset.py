"""The parameters that source and target share: a dataset, its place, and how its images are read."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from imbnas.errors import is_utf8
from imbnas.params.medmnist import MEDMNIST, MedmnistName, MedmnistSize
from imbnas.params.section import Section, short
from imbnas.params.shared import Count, Positive, Side

Resize = Literal["auto", "cover", "exact", "pad"]


@dataclass(frozen=True)
class Published:
    """A published dataset: width and height of its images in pixels, their channels, how many there are, and classes.

    `mirrored` says whether a mirrored image is still a valid one: a mirrored digit is another sign.
    """

    side: int
    channels: Literal[1, 3]
    rows: int
    classes: int
    mirrored: bool


PUBLISHED: dict[str, Published] = {
    "digits": Published(8, 1, 1_797, 10, mirrored=False),
    "mnist": Published(28, 1, 70_000, 10, mirrored=False),
    "fashion-mnist": Published(28, 1, 70_000, 10, mirrored=True),
    "cifar10": Published(32, 3, 60_000, 10, mirrored=True),
    "cifar100": Published(32, 3, 60_000, 100, mirrored=True),
}
"""Every dataset that a library brings along or downloads; `imbnas.data.builtin` reads them."""
PATH_DATASETS = ("folder", "list")
"""Datasets whose images stay files."""
OWN_DATASETS = (*PATH_DATASETS, "npz")
"""Datasets that a user brings along: they are where `root` says, and have no size of their own."""
SIZELESS = (*OWN_DATASETS, "medmnist")
"""Datasets for which the user says of which size the network's input is."""
if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[*PUBLISHED, *SIZELESS]
LARGEST_IMAGE = 178_956_970
"""Pixels beyond which Pillow, too, takes a file for an attack: half a gigabyte in colour."""
LONGEST_NAME = 4096
"""Bytes of a path that systems take."""


def file_name(value: str) -> str:
    """Refuse what no file can be called."""
    if not is_utf8(value) or "\0" in value or len(value.encode()) >= LONGEST_NAME:
        raise ValueError(
            f"found {short(value)}, expected a name without NUL, valid as UTF-8, of less than {LONGEST_NAME} bytes"
        )
    return value


def _plain_path(value: str) -> str:
    """Refuse other spellings of a directory: steps compare roots to tell whether two datasets share images."""
    plain = posixpath.normpath(value) if value else "."
    if plain == ".":
        raise ValueError(f"found {value!r}, expected a directory of the dataset's own, as in datasets/cifar10")
    if "{" in value or "}" in value:
        raise ValueError(f"found {value}, expected a name without braces, which workflow tools take for wildcards")
    if plain != value:
        raise ValueError(f"found {value}, expected it spelt {plain}")
    return value


FileName = Annotated[str, AfterValidator(file_name)]
RootPath = Annotated[str, AfterValidator(file_name), AfterValidator(_plain_path)]


class Splits(Section):
    """Names below `root`: for `folder` the directories of class directories, for `list` the indexes."""

    train: FileName | None = None
    """Training images; required by `list`: lines `path label`, a table (.csv, .parquet) with the columns path and
    label, perhaps split and group, or iNaturalist's .json; `folder` takes `root` itself when it is null."""
    validation: FileName | None = None
    """Published validation images, used when `validation.from` is published."""
    test: FileName | None = None
    """Published test images; null: a seeded, stratified share of the training images (`test_fraction`)."""


class Validation(Section):
    """The validation rows, which judge subnets."""

    from_: Annotated[Literal["reserve", "longtail", "published"], Field(alias="from")] = "reserve"
    """`reserve`: `per_class` rows before any imbalance; `longtail`: a fraction of the long-tailed rows;
    `published`: the dataset's own validation split."""
    per_class: Count = 10
    """Rows of each class for `reserve`; 0 reserves none (the literature's cells); search then refuses to run."""
    fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of each class's long-tailed rows for `longtail`, at least one row per class."""


class SourceValidation(Section):
    """The source's validation rows, which judge the supernet."""

    per_class: Positive = 10
    """Rows of each class, reserved before training."""


class DatasetParams(Section):
    """A dataset and how it is read."""

    dataset: DatasetName = "digits"
    """Its name in the registry; `folder`, `list` and `npz` (arrays as MedMNIST publishes them) are your own images."""
    name: MedmnistName | None = None
    """Which of MedMNIST's datasets, for `medmnist` (Yang et al. 2023)."""
    size: MedmnistSize | None = None
    """Side in pixels of the `medmnist` file: 28, 64, 128 or 224; null takes the smallest that is not below the
    network's input."""
    root: RootPath = "datasets/digits"
    """Directory of the raw files, a directory of its own for each dataset, or the .npz file; DVC watches it."""
    download: bool = False
    """Whether missing files of a published dataset may be downloaded into `root`; false expects them there already."""
    splits: Splits = Splits()
    """Where a `folder` or `list` dataset keeps its splits."""
    groups: FileName | None = None
    """Name below `root` of a CSV or Parquet table with the columns path and group, for `folder` and `list`: images of
    one group (a patient, lesion, burst, track) never cross splits. An index may have the column group itself."""
    class_names: FileName | None = None
    """Name below `root` of a text file with a class name per line, in the order of the labels, for `list`."""
    resize: Resize = "auto"
    """How `folder` and `list` images become squares: `cover` brings the short side to 8/7 of the size, so that training
    crops have a margin, and evaluation cuts the centre; `exact` brings the short side to the size; `pad` the long side,
    with black beside it; `auto`: exact up to 96 pixels, else cover."""
    exif_rotation: bool = True
    """Whether `folder` and `list` images are turned as their EXIF data say, as a viewer shows them."""
    verify: Literal["headers", "full"] = "full"
    """How `folder` and `list` images are checked up front: only their headers, or decoded in full."""
    max_pixels: Annotated[int, Field(gt=0, lt=2**31)] = LARGEST_IMAGE
    """Most pixels, width times height, of a `folder` or `list` image: a small file may hold a picture that takes
    gigabytes of memory. Larger ones are refused by name; raise it where they are meant."""
    seed: Count = 0
    """Draws its splits; apart from the top `seed`, so that runs of several seeds share their rows."""

    @property
    def named(self) -> dict[str, str | None]:
        """The names of files and directories below `root`, by parameter: the splits', groups and class_names."""
        return {**self.splits.model_dump(), "groups": self.groups, "class_names": self.class_names}

    @property
    def own_splits(self) -> bool:
        """Whether its files say themselves what is validation and test: arrays, and a table may."""
        table = self.dataset == "list" and str(self.splits.train).lower().endswith((".csv", ".parquet"))
        alone = self.splits.validation is None and self.splits.test is None
        return self.dataset in ("npz", "medmnist") or (table and alone)

    @property
    def title(self) -> str:
        """The dataset's name in outputs: of MedMNIST that of the one."""
        return self.name or self.dataset

    @model_validator(mode="after")
    def _own_files(self) -> Self:
        named = [name for name, value in self.splits if value is not None]
        if named and self.dataset not in PATH_DATASETS:
            raise ValueError(
                f"splits.{named[0]} is set for {self.dataset}, expected null: only folder and list take it"
            )
        if self.groups is not None and self.dataset not in PATH_DATASETS:
            raise ValueError(
                f"groups is {short(self.groups)} for {self.dataset}, expected null: only folder and list take it"
            )
        if self.class_names is not None and self.dataset != "list":
            raise ValueError(
                f"class_names is {short(self.class_names)} for {self.dataset}, expected null: only list takes it"
            )
        if self.resize != "auto" and self.dataset not in PATH_DATASETS:
            raise ValueError(f"resize is {self.resize} for {self.dataset}, expected auto: only folder and list take it")
        if not self.exif_rotation and self.dataset not in PATH_DATASETS:
            raise ValueError(f"exif_rotation is false for {self.dataset}, expected true: arrays are never rotated")
        if (self.dataset == "medmnist") != (self.name is not None):
            wanted = f"one of {', '.join(MEDMNIST)}" if self.name is None else "null: only medmnist has several"
            raise ValueError(f"name is {short(self.name)} for {self.dataset}, expected {wanted}")
        if self.size is not None and self.dataset != "medmnist":
            raise ValueError(f"size is {self.size} for {self.dataset}, expected null: only medmnist has several")
        if self.dataset == "list" and self.splits.train is None:
            raise ValueError("splits.train is null for a list dataset, expected the name of its training list")
        if self.download and self.dataset in (*OWN_DATASETS, "digits"):
            raise ValueError(f"download is true for {self.dataset}, expected false: there is nothing to download")
        return self


class Shape(Section):
    """The shape of the network's input, which the target rules."""

    dataset: DatasetName
    """See `target.dataset`."""
    image_size: Side | None
    """See `target.image_size`."""
    channels: Literal[1, 3] | None
    """See `target.channels`."""


def same_images(source: DatasetParams, target: DatasetParams) -> bool:
    """Return whether source and target name the same images, so that they must take disjoint rows.

    A published dataset is the same wherever its files lie; the user's own images are where `root` and `splits.train`
    say. Whether other names lead to the same images is found out from their contents, by the step `target`.
    """
    if source.dataset not in OWN_DATASETS:
        return source.title == target.title
    names = [(section.dataset, section.root, section.splits.train) for section in (source, target)]
    return names[0] == names[1]
