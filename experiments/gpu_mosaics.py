"""Many small images as a few lossless mosaics: WebP where they have colours, else PNG, both of which Pillow reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 1024
"""Pixels of a mosaic's side at most."""
SUFFIX = {1: ".png", 3: ".webp"}


def write_mosaics(folder: Path, stem: str, images: np.ndarray) -> list[Path]:
    """Write images uint8 (N, H, W, 1 or 3) as files `stem-000...` in `folder`, and return them.

    Each is read back: ValueError where it holds other pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, begin in enumerate(range(0, len(images), _room(images.shape))):
        tiles = images[begin : begin + _room(images.shape)]
        file = _file(folder, stem, number, images.shape[3])
        picture = Image.fromarray(_joined(tiles).squeeze())
        picture.save(file, **({"lossless": True, "quality": 100, "method": 5} if images.shape[3] == 3 else {}))
        if not np.array_equal(_read(file, tiles.shape), tiles):
            raise ValueError(f"{file}: holds other pixels than were written, expected the same")
        files.append(file)
    return files


def read_mosaics(folder: Path, stem: str, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Return the images uint8 of `shape` (N, H, W, C) that `write_mosaics` wrote."""
    images, room = np.empty(shape, np.uint8), _room(shape)
    for number, begin in enumerate(range(0, shape[0], room)):
        part = images[begin : begin + room]
        part[:] = _read(_file(folder, stem, number, shape[3]), part.shape)
    return images


def _room(shape: tuple[int, ...]) -> int:
    """Return how many images a mosaic holds."""
    return max(1, SIDE // shape[1]) * max(1, SIDE // shape[2])


def _file(folder: Path, stem: str, number: int, channels: int) -> Path:
    return folder / f"{stem}-{number:03d}{SUFFIX[channels]}"


def _joined(tiles: np.ndarray) -> np.ndarray:
    """Return one picture (rows x H, columns x W, C) of the tiles, black where the last row lacks some."""
    count, height, width, channels = tiles.shape
    columns = min(count, max(1, SIDE // width))
    rows = -(-count // columns)
    full = np.zeros((rows * columns, height, width, channels), np.uint8)
    full[:count] = tiles
    grid = full.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)


def _read(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the tiles of a mosaic of `shape` (N, H, W, C)."""
    count, height, width, channels = shape
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
    grid = pixels.reshape(pixels.shape[0] // height, height, pixels.shape[1] // width, width, channels)
    return grid.swapaxes(1, 2).reshape(-1, height, width, channels)[:count]
