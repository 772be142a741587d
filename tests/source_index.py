"""What the step `target` reads of the source, written without a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imbnas.data.contents import DIGESTS
from imbnas.data.materialise import write_index
from imbnas.data.stored import INDEX


def write_source_index(root: Path, digests: np.ndarray | None = None, **more: np.ndarray) -> None:
    """Write the indices of a source whose training images have these contents; by default it has none."""
    for name in ("train", "validation"):
        own = {"digest": np.empty(0, DIGESTS) if digests is None else digests, **more}
        columns = own if name == "train" else {key: values[:0] for key, values in own.items()}
        write_index(root / "data/source" / name / INDEX, {}, None, columns)
