"""Small pictures of the rarest classes, as they go into a page."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from imbnas.data.decode import eight_bit
from imbnas.data.raw import Raw
from imbnas.data.verify import open_image
from imbnas.inspection.image_findings import Images
from imbnas.report.page import Pictures

CLASSES, EACH = 8, 8
SIDE = 96


def contact_sheet(train: Images, counts: np.ndarray) -> Pictures:
    """Return up to EACH pictures of each of the CLASSES rarest classes by `counts`; what cannot be read is left out."""
    raw = train.raw
    rarest = np.argsort(counts, kind="stable")[:CLASSES]
    rows = []
    for label in rarest.tolist():
        places = np.flatnonzero(raw.labels == label)
        chosen = places[np.linspace(0, len(places) - 1, min(EACH, len(places))).astype(np.int64)]
        pictures = [picture for row in chosen.tolist() if (picture := _thumbnail(raw, row)) is not None]
        rows.append((f"{raw.classes[label]}\n{len(places)} images", pictures))
    return Pictures("The rarest classes", rows, "Look for wrong labels: in a small class one of them weighs much.")


def _thumbnail(raw: Raw, row: int) -> bytes | None:
    """Return a JPEG of an image, at most SIDE pixels wide and high; None for one that cannot be read."""
    try:
        picture = _opened(raw, row)
    # PIL raises many kinds of errors on damaged files, which the page names elsewhere.
    except Exception:
        return None
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _opened(raw: Raw, row: int) -> Image.Image:
    if raw.images is not None:
        pixels = raw.images[row]
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        return image.resize((SIDE, SIDE), Image.Resampling.NEAREST if image.width < SIDE else None)
    assert raw.paths is not None
    with open_image(raw.root / raw.paths[row]) as image:
        image.draft("RGB", (SIDE, SIDE))
        upright = ImageOps.exif_transpose(eight_bit(image, 3))
        upright.thumbnail((SIDE, SIDE))
        return upright
