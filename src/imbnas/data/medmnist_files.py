"""MedMNIST's files by name: downloaded where that is asked for, checked against the published MD5, and read."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from imbnas.data.arrays import read_npz
from imbnas.data.builtin import downloading
from imbnas.data.raw import Raw
from imbnas.errors import UserError
from imbnas.files import ARRAYS_LIMIT, open_regular, replacing
from imbnas.params.medmnist import MEDMNIST, file_of

RECORD = "https://zenodo.org/records/10519652/files/"
"""Where the authors publish the files."""


def read_medmnist(name: str, size: int, root: Path, download: bool, section: str) -> dict[str, Raw | None]:
    """Return the training, validation and test split of a dataset of MedMNIST, with the published class names.

    Its file of `size` pixels lies in the directory `root`, or is downloaded there. Raises UserError naming a file that
    is missing, or is not the published one, which no download replaces. `section` is named in messages.
    """
    called, md5 = file_of(name, size)
    file = root / called
    if download and not file.exists():
        _download(file, md5, section)
    _check_md5(file, md5, f"{section}.root", download)
    classes = list(MEDMNIST[name].classes)
    return {
        split: None if raw is None else dataclasses.replace(raw, classes=classes)
        for split, raw in read_npz(file, section).items()
    }


def _check_md5(file: Path, md5: str, parameter: str, download: bool) -> None:
    try:
        with open_regular(file, ARRAYS_LIMIT) as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        section = parameter.partition(".")[0]
        raise UserError(
            f"{parameter}: {file}: not found, expected it there: set {section}.download to true, or get it from "
            f"{RECORD}{file.name}"
        ) from None
    except OSError as error:
        raise UserError(f"{parameter}: {file}: {error.strerror}, expected the published file") from None
    if found != md5:
        again = "delete it to have it downloaded" if download else f"get it again from {RECORD}{file.name}"
        raise UserError(
            f"{parameter}: {file}: has the MD5 {found}, expected {md5} of the published file: {again}, or read a file "
            "of your own with dataset: npz"
        )


def _download(file: Path, md5: str, section: str) -> None:
    """Fetch a file to a name of its own and rename it once its MD5 is right."""
    from torchvision.datasets.utils import download_url

    with downloading(file.parent):
        # The other step may have fetched it meanwhile.
        if file.exists():
            return
        try:
            with replacing(file) as part:
                part.unlink()
                download_url(f"{RECORD}{file.name}?download=1", str(part.parent), part.name, md5)
        except UserError:
            raise
        # torchvision and urllib meet bad networks with RuntimeError, URLError, HTTPException and OSError.
        except Exception as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise UserError(
                f"{section}.root: {file} could not be downloaded from {RECORD}{file.name} ({reason}), expected a "
                "network, or the file there"
            ) from None
