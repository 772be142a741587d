"""The metadata of networks on disk, and how they are read from the first bytes of a file, without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imbnas.errors import UserError
from imbnas.files import MODEL_LIMIT, canonical_json, open_regular

FORMAT = 1
KEY = "imbnas"
HEADER_LIMIT = 32 << 20
"""Bytes; a network of a thousand blocks and ten thousand classes has a tenth."""
EXPECTED = "expected a network written by imbnas"
_LENGTH = 8


def read_meta(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Return the metadata of a file that `save_weights` wrote; UserError names a foreign, truncated or other file.

    The size of the file is compared with its header; tensors are not read.
    """
    try:
        with open_regular(path, MODEL_LIMIT) as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(_LENGTH), "little")
            if length > min(HEADER_LIMIT, size - _LENGTH):
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            header = json.loads(stream.read(length))
        ends = [part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"]
        whole = _LENGTH + length + max(ends, default=0)
        if size != whole:
            raise ValueError(f"{size:,} bytes where its header says {whole:,}")
        metadata = dict(header.get("__metadata__") or {})
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, {EXPECTED}") from None
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not a whole safetensors file ({reason}), {EXPECTED}") from None
    return checked_meta(path, metadata, kind)


def checked_meta(path: Path, metadata: Mapping[str, str], kind: str | None) -> dict[str, Any]:
    """Return what the one entry of a file's own metadata holds; UserError names a file of another program or kind."""
    if KEY not in metadata:
        raise UserError(f"{path}: a safetensors file without imbnas metadata, {EXPECTED}")
    try:
        meta: dict[str, Any] = json.loads(metadata[KEY], parse_constant=_no_number)
        canonical_json(meta).encode()
    except (TypeError, ValueError, RecursionError):
        raise UserError(f"{path}: its imbnas metadata is not JSON, {EXPECTED}") from None
    if not isinstance(meta, dict):
        raise UserError(f"{path}: its imbnas metadata is no mapping, {EXPECTED}")
    if type(meta.get("format")) is not int or meta["format"] != FORMAT:
        raise UserError(f"{path}: format {meta.get('format')}, expected {FORMAT}; run the step that writes it again")
    if kind is not None and meta.get("kind") != kind:
        raise UserError(f"{path}: holds a {meta.get('kind')}, expected a {kind}")
    return meta


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
