"""Datasets that a library brings along or downloads: scikit-learn's digits, and torchvision's MNIST and CIFAR."""

from __future__ import annotations

import fcntl
import hashlib
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from imbnas.data.links import refuse_linked
from imbnas.data.raw import Raw
from imbnas.errors import UserError
from imbnas.files import check_regular

_SILENCE_SECONDS = 60.0
_TORCHVISION = {
    "mnist": ("MNIST", "MNIST/raw"),
    "fashion-mnist": ("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
}
"""Torchvision's class for each dataset that it reads, and where it keeps the files; in `raw` those of MNIST's kind."""


def load_digits(root: Path) -> Raw:
    """Return scikit-learn's 1,797 digits as uint8 (N, 8, 8, 1); nothing is read from `root`.

    The 17 grey levels 0..16 are spread over 0..255.
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = np.round(bunch.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    return Raw(bunch.target.astype(np.int64), [str(k) for k in range(10)], images, None, root)


def load_torchvision(name: str, root: Path, download: bool, section: str) -> tuple[Raw, Raw]:
    """Return the training and test split of a dataset as torchvision reads it from `root`, in the published order.

    Raises UserError with one line when files are missing or corrupt, or the download fails. `section` is named in it.
    """
    from torchvision import datasets

    reader = getattr(datasets, _TORCHVISION[name][0])
    halves = []
    with downloading(root) if download else nullcontext():
        _refuse_odd_files(root, name, getattr(reader, "filename", None))
        for train in (True, False):
            try:
                data = reader(str(root), train=train, download=download)
            # torchvision meets bad files with assertions, RuntimeError, ValueError, EOFError, zlib and pickle errors.
            except Exception as error:
                raise UserError(_complaint(name, root, download, section, error)) from None
            halves.append(_as_raw(data, root))
    return halves[0], halves[1]


def raw_names(name: str, root: Path) -> list[str] | None:
    """Return the files below `root` that torchvision reads without checking them; None for any other dataset.

    It compares CIFAR's with published checksums. Of MNIST it prefers what its earlier versions have left.
    """
    place = Path(_TORCHVISION[name][1] if name in _TORCHVISION else "")
    if place.name != "raw":
        return None
    folder = place.parent
    legacy = [folder / "processed" / file for file in ("training.pt", "test.pt")]
    if all((root / file).is_file() for file in legacy):
        return [file.as_posix() for file in legacy]
    stems = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    return [(folder / "raw" / stem).as_posix() for stem in stems]


def _refuse_odd_files(root: Path, name: str, archive: str | None) -> None:
    """Raise UserError for a pipe or the like among the files that torchvision will open, or a linked directory."""
    refuse_linked(root, [_TORCHVISION[name][1]])
    folder = root / _TORCHVISION[name][1]
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in [*files, root / archive] if archive else files:
        if file.exists() and not file.is_dir():
            check_regular(file)


@contextmanager
def downloading(root: Path) -> Iterator[None]:
    """Keep the steps `source` and `target`, which may run side by side, from downloading one dataset into each other.

    The lock is not below `root`, whose content DVC watches. A server that falls silent ends the download.
    """
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"imbnas-download-{name}.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_SILENCE_SECONDS)
        try:
            yield
        finally:
            socket.setdefaulttimeout(before)


def _complaint(name: str, root: Path, download: bool, section: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    folder = root / _TORCHVISION[name][1]
    if download:
        return (
            f"{section}.root: {name} could not be downloaded to or read from {root} ({reason}), "
            f"expected a network, or intact files in {folder}"
        )
    state = "corrupt" if folder.is_dir() and any(folder.iterdir()) else "missing"
    return (
        f"{section}.root: the files of {name} are {state} in {root} ({reason}), "
        f"expected them in {folder}: set {section}.download to true or place them there"
    )


def _as_raw(data: object, root: Path) -> Raw:
    images = np.asarray(data.data)  # type: ignore[attr-defined]
    labels = np.asarray(data.targets, dtype=np.int64)  # type: ignore[attr-defined]
    classes = [str(label) for label in data.classes]  # type: ignore[attr-defined]
    if images.ndim == 3:
        images = images[..., None]
    return Raw(labels, classes, images, None, root)
