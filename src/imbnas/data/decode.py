"""Pixels: image files to arrays, and arrays to another size or number of channels; the same bytes everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from imbnas.data.raw import Reading, Shape
from imbnas.data.verify import SizeLimit, TooLargeError, open_image, unreadable
from imbnas.errors import UserError

ORIENTATION = ExifTags.Base.Orientation


def decode_file(file: Path, reading: Reading, size: SizeLimit | None = None) -> np.ndarray:
    """Return the image in `file` as uint8 (side, side, channels), scaled bilinearly in one pass.

    Its central square is taken, or, with `reading.pad`, the whole of it with black beside it. A rotation that EXIF asks
    for is done first, unless `reading.upright` is false. Transparency is dropped, 16-bit grey keeps its high byte, and
    colour becomes grey by ITU-R 601 luma (PIL's "L").

    Raises UserError naming a file that is missing, damaged, or larger than `size` allows; images of a dataset were
    measured when it was verified.
    """
    try:
        with open_image(file, size) as opened:
            image = eight_bit(_upright(opened) if reading.upright else opened, reading.channels)
    except UserError:
        raise
    except TooLargeError as error:
        raise UserError(f"{file}: {error}") from None
    # On damaged files PIL raises OSError, SyntaxError, ValueError, struct.error, and its own bomb error.
    except Exception as error:
        raise UserError(f"{file}: {unreadable(error)}") from None
    square = _padded(image, reading.load_side) if reading.pad else _central(image, reading.load_side)
    return np.asarray(square, dtype=np.uint8).reshape(reading.load_side, reading.load_side, reading.channels)


def _central(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    return image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + short, top + short))


def _padded(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    longest = max(width, height)
    small = max(1, round(width * side / longest)), max(1, round(height * side / longest))
    square = Image.new(image.mode, (side, side))
    place = (side - small[0]) // 2, (side - small[1]) // 2
    square.paste(image.resize(small, Image.Resampling.BILINEAR), place)
    return square


def _upright(image: Image.Image) -> Image.Image:
    """Return the image as it is meant to be looked at; one whose EXIF data cannot be read is left as it lies."""
    try:
        turned = image.getexif().get(ORIENTATION, 1) != 1
    except Exception:
        return image
    # Without a rotation PIL would copy the whole picture.
    return ImageOps.exif_transpose(image) if turned else image


def eight_bit(image: Image.Image, channels: int) -> Image.Image:
    """Return an opened image with 8 bits per value, in grey (1 channel) or colour (3); ValueError for other pixels."""
    if image.mode == "F":
        # A step refuses these, which PIL would clip to whole numbers up to 255.
        raise ValueError("pixels are floating-point numbers, expected 8 or 16 bits")
    if image.mode.startswith("I"):
        # PIL's own conversion clips 16-bit values at 255, which turns a radiograph white.
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() >= 1 << 16:
            raise ValueError(f"pixels from {values.min()} to {values.max()}, expected 0 to {(1 << 16) - 1}")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")


def convert_array(images: np.ndarray, shape: Shape) -> np.ndarray:
    """Return uint8 images (N, H, W, C) scaled bilinearly to `shape`; grey is repeated, colour becomes 601 luma."""
    if images.shape[3] == 3 and shape.channels == 1:
        count, height, width, _ = images.shape
        tall = Image.fromarray(np.ascontiguousarray(images).reshape(count * height, width, 3))
        images = np.asarray(tall.convert("L")).reshape(count, height, width, 1)
    if images.shape[1:3] != (shape.height, shape.width):
        images = np.stack([_resize(image, shape) for image in images]) if len(images) else _none(images, shape)
    if images.shape[3] == 1 and shape.channels == 3:
        images = np.repeat(images, 3, axis=3)
    return np.ascontiguousarray(images)


def _resize(image: np.ndarray, shape: Shape) -> np.ndarray:
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
    scaled = picture.resize((shape.width, shape.height), Image.Resampling.BILINEAR)
    return np.asarray(scaled, dtype=np.uint8).reshape(shape.height, shape.width, image.shape[2])


def _none(images: np.ndarray, shape: Shape) -> np.ndarray:
    return np.zeros((0, shape.height, shape.width, images.shape[3]), np.uint8)
