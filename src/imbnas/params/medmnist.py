"""MedMNIST's datasets of 2D images (Yang et al. 2023): the facts that its authors publish.

They are those of the package medmnist 3.0.2 (medmnist/info.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from imbnas.params.section import short

SIZES = (28, 64, 128, 224)
"""Sides in pixels in which each dataset is published, a file per size."""
if TYPE_CHECKING:
    MedmnistSize = int
else:
    MedmnistSize = Literal[*SIZES]


@dataclass(frozen=True)
class Medmnist:
    """One dataset: channels, rows of its training, validation and test split, class names in label order, licence.

    `mirrored` says whether a mirrored image is still a valid one: a left kidney becomes a right one. `md5` are the
    checksums of its files, in the order of SIZES.
    """

    channels: Literal[1, 3]
    rows: tuple[int, int, int]
    classes: tuple[str, ...]
    licence: str
    mirrored: bool
    md5: tuple[str, ...]


def _dataset(
    channels: Literal[1, 3], rows: tuple[int, int, int], licence: str, mirrored: bool, classes: str, md5: str
) -> Medmnist:
    """Return a dataset whose class names stand apart by bars, and whose checksums by spaces."""
    return Medmnist(channels, rows, tuple(classes.split(" | ")), licence, mirrored, tuple(md5.split()))


MEDMNIST: dict[str, Medmnist] = {
    "pathmnist": _dataset(
        3,
        (89_996, 10_004, 7_180),
        "CC BY 4.0",
        True,
        "adipose | background | debris | lymphocytes | mucus | smooth muscle | normal colon mucosa | "
        "cancer-associated stroma | colorectal adenocarcinoma epithelium",
        "a8b06965200029087d5bd730944a56c1 55aa9c1e0525abe5a6b9d8343a507616 ac42d08fb904d92c244187169d1fd1d9 "
        "2c51a510bcdc9cf8ddb2af93af1eadec",
    ),
    "dermamnist": _dataset(
        3,
        (7_007, 1_003, 2_005),
        "CC BY-NC 4.0",
        True,
        "actinic keratoses and intraepithelial carcinoma | basal cell carcinoma | benign keratosis-like lesions | "
        "dermatofibroma | melanoma | melanocytic nevi | vascular lesions",
        "0744692d530f8e62ec473284d019b0c7 b70a2f5635c6199aeaa28c31d7202e1f 2defd784463fa5243564e855ed717de1 "
        "8974907d8e169bef5f5b96bc506ae45d",
    ),
    "octmnist": _dataset(
        1,
        (97_477, 10_832, 1_000),
        "CC BY 4.0",
        True,
        "choroidal neovascularization | diabetic macular edema | drusen | normal",
        "c68d92d5b585d8d81f7112f81e2d0842 e229e9440236b774d9f0dfef9d07bdaf 0a97e76651ace45c5d943ee3f65b63ae "
        "abc493b6d529d5de7569faaef2773ba3",
    ),
    "pneumoniamnist": _dataset(
        1,
        (4_708, 524, 624),
        "CC BY 4.0",
        False,
        "normal | pneumonia",
        "28209eda62fecd6e6a2d98b1501bb15f 8f4eceb4ccffa70c672198ea285246c6 05b46931834c231683c68f40c47b2971 "
        "d6a3c71de1b945ea11211b03746c1fe1",
    ),
    "retinamnist": _dataset(
        3,
        (1_080, 120, 400),
        "CC BY 4.0",
        True,
        "0 | 1 | 2 | 3 | 4",
        "bd4c0672f1bba3e3a89f0e4e876791e4 afda852cc34dcda56f86ad2b2457dbcc e48e916a24454daf90583d4e6efb1a18 "
        "eae7e3b6f3fcbda4ae613ebdcbe35348",
    ),
    "breastmnist": _dataset(
        1,
        (546, 78, 156),
        "CC BY 4.0",
        True,
        "malignant | normal, benign",
        "750601b1f35ba3300ea97c75c52ff8f6 742edef2a1fd1524b2efff4bd7ba9364 363e4b3f8d712e9b5de15470a2aaadf1 "
        "b56378a6eefa9fed602bb16d192d4c8b",
    ),
    "bloodmnist": _dataset(
        3,
        (11_959, 1_712, 3_421),
        "CC BY 4.0",
        True,
        "basophil | eosinophil | erythroblast | immature granulocytes(myelocytes, metamyelocytes and "
        "promyelocytes) | lymphocyte | monocyte | neutrophil | platelet",
        "7053d0359d879ad8a5505303e11de1dc 2b94928a2ae4916078ca51e05b6b800b adace1e0ed228fccda1f39692059dd4c "
        "b718ff6835fcbdb22ba9eacccd7b2601",
    ),
    "tissuemnist": _dataset(
        1,
        (165_466, 23_640, 47_280),
        "CC BY 4.0",
        True,
        "Collecting Duct, Connecting Tubule | Distal Convoluted Tubule | Glomerular endothelial cells | "
        "Interstitial endothelial cells | Leukocytes | Podocytes | Proximal Tubule Segments | Thick Ascending Limb",
        "ebe78ee8b05294063de985d821c1c34b 123ece2eba09d0aa5d698fda57103344 61b955355d7425a89687b06cca3ce0c2 "
        "b077128c4a949f0a4eb01517f9037b9c",
    ),
    "organamnist": _dataset(
        1,
        (34_561, 6_491, 17_778),
        "CC BY 4.0",
        False,
        "bladder | femur-left | femur-right | heart | kidney-left | kidney-right | liver | lung-left | lung-right "
        "| pancreas | spleen",
        "68e3f8846a6bd62f0c9bf841c0d9eacc 2dcccc29b88e6da5a01161ef20cda288 eeae80d0a227a8d099027e1b3cfd3b60 "
        "50747347e05c87dd3aaf92c49f9f3170",
    ),
    "organcmnist": _dataset(
        1,
        (12_975, 2_392, 8_216),
        "CC BY 4.0",
        False,
        "bladder | femur-left | femur-right | heart | kidney-left | kidney-right | liver | lung-left | lung-right "
        "| pancreas | spleen",
        "b9ceb9546e10131b32923c5bbeaea2b1 3ce34a8724ea6f548e6db4744d03b6a9 773c1f009daa3fe5d9a2a201b2a7ed94 "
        "050f5e875dc056f6768abf94ec9995d1",
    ),
    "organsmnist": _dataset(
        1,
        (13_932, 2_452, 8_827),
        "CC BY 4.0",
        False,
        "bladder | femur-left | femur-right | heart | kidney-left | kidney-right | liver | lung-left | lung-right "
        "| pancreas | spleen",
        "9ab87b696fb54e2a387ebe992d6ed5f1 53a6d115339d874c25e309a994ff46d3 ded0c5fa01a95dc4978b956f613e9b8e "
        "b354719e553fbbb2513d5533f52a4cb1",
    ),
}
"""The datasets with one label per image."""
SEVERAL_LABELS = ("chestmnist",)
"""The one whose images have several labels each."""
VOLUMES = (
    "organmnist3d",
    "nodulemnist3d",
    "adrenalmnist3d",
    "fracturemnist3d",
    "vesselmnist3d",
    "synapsemnist3d",
)
"""Those of volumes."""


def _usable(given: Any) -> Any:
    """Refuse the datasets of MedMNIST with several labels per image or with volumes, and say so."""
    expected = f"expected one of {', '.join(MEDMNIST)}"
    if given in SEVERAL_LABELS:
        raise ValueError(f"found {given}, whose images have several labels each, {expected}")
    if given in VOLUMES:
        raise ValueError(f"found {given}, which holds volumes, {expected}")
    if isinstance(given, str) and given not in MEDMNIST:
        raise ValueError(f"found {short(given)}, {expected}")
    return given


if TYPE_CHECKING:
    MedmnistName = str
else:
    MedmnistName = Annotated[Literal[*MEDMNIST], BeforeValidator(_usable)]


def stored_size(size: int | None, side: int) -> int:
    """Return the size of the file to read for a network's input of `side` pixels: as given, else none that is blown up.

    Above the largest, that.
    """
    return size or next((known for known in SIZES if known >= side), SIZES[-1])


def file_of(name: str, size: int) -> tuple[str, str]:
    """Return the published file's name and its MD5."""
    md5 = MEDMNIST[name].md5[SIZES.index(size)]
    return f"{name}{'' if size == SIZES[0] else f'_{size}'}.npz", md5
