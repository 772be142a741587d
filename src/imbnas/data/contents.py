"""Digests of images by content, so that an image is recognised under another name, root or kind.

The digest of a file is the SHA-256 of its bytes. That of an image in an array covers its pixels before any resizing:
shape and values, where grey stored as three equal channels counts as grey. Files can have such a digest too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from imbnas.data.decode import eight_bit
from imbnas.data.raw import Raw
from imbnas.data.stored import INDEX, read_columns
from imbnas.data.verify import map_threaded
from imbnas.errors import UserError
from imbnas.files import digest_file

CONTENT, PIXELS = "digest", "pixels"
"""Columns of a split's index: each row's content, and of files, where arrays are to be met, the decoded pixels."""
STORED = pa.binary(hashlib.sha256().digest_size)
"""How digests are stored."""
DIGESTS = np.dtype(("S", STORED.byte_width))
"""How an array holds them: equal and ordered as the bytes are."""
_CHUNK = 1024


def contents(raw: Raw, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the digest of each image of a raw split, or of its `rows`: DIGESTS (N,).

    Raises UserError naming a file that cannot be read.
    """
    if raw.images is not None:
        return _of_array(raw.images, np.arange(len(raw)) if rows is None else rows)
    if raw.digests is not None:
        known = raw.digests if rows is None else [raw.digests[row] for row in rows.tolist()]
        return np.array([bytes.fromhex(digest) for digest in known], dtype=DIGESTS)
    paths = raw.paths or []
    chosen = paths if rows is None else [paths[row] for row in rows.tolist()]
    return np.array([*map_threaded(lambda path: _of_file(raw.root / path), chosen)], dtype=DIGESTS)


def pixel_digest(image: np.ndarray) -> bytes:
    """Return the digest of an image uint8 (H, W, 1 or 3) by its pixels."""
    if image.shape[2] == 3 and (image == image[..., :1]).all():
        image = image[..., :1]
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()


def image_digest(image: Image.Image) -> bytes:
    """Return the digest of an opened image file by its pixels, as they are stored."""
    return pixel_digest(np.asarray(eight_bit(image, 3), dtype=np.uint8))


def first_of(digests: np.ndarray) -> np.ndarray:
    """Return, for each of N digests, the first row with the same: int64 (N,), the row itself when it is the first."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64, copy=False)


def stored(digests: np.ndarray) -> pa.Array:
    """Return digests as a column of a table."""
    return pa.FixedSizeBinaryArray.from_buffers(STORED, len(digests), [None, pa.py_buffer(digests.tobytes())])


def read_contents(directory: Path, column: str = CONTENT) -> np.ndarray | None:
    """Return a column of digests of the split in `directory`, None where its index has none; UserError as `read_split`.

    Neither images nor the description of the split are opened.
    """
    file = directory / INDEX
    if column != CONTENT and file.exists():
        try:
            if column not in pq.ParquetFile(file).schema_arrow.names:
                return None
        except (pa.ArrowException, OSError):
            pass  # Told by what follows.
    chunks = read_columns(file, {column: STORED})[column].chunks
    parts = [np.frombuffer(chunk.buffers()[1], DIGESTS)[chunk.offset :][: len(chunk)] for chunk in chunks if len(chunk)]
    return np.concatenate([np.empty(0, DIGESTS), *parts])


def _of_array(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    found: list[bytes] = []
    for start in range(0, len(rows), _CHUNK):
        found += map(pixel_digest, images[rows[start : start + _CHUNK]])
    return np.array(found, dtype=DIGESTS)


def _of_file(file: Path) -> bytes:
    try:
        return bytes.fromhex(digest_file(file))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}), expected an image") from None
