"""Image files for the tests of path datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SaveImage = Callable[..., Path]


@pytest.fixture
def save_image(tmp_path: Path) -> SaveImage:
    """Return a function that writes a random image below tmp_path/images; its name chooses the format."""

    def save(name: str, seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
        rng = np.random.default_rng(seed)
        shape = size[::-1] if mode == "L" else (*size[::-1], 3)
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file)
        return file

    return save
