"""Networks on disk: safetensors whose one metadata entry is canonical JSON, so that equal networks are equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from imbnas.errors import UserError
from imbnas.files import MODEL_LIMIT, canonical_json, open_regular, write_bytes

FORMAT = 1
KEY = "imbnas"


def save_weights(path: Path, state: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and metadata by rename.

    `meta` holds JSON values and must name its `kind` ("supernet", "subnet" or "references"). safetensors keeps metadata
    in a hash map of random order; with a single entry the bytes are a function of the content.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    text = canonical_json({"format": FORMAT, **meta})
    # The library's own writer leaves a name of its own behind when it is killed, and a mode that is nobody's choice.
    write_bytes(path, save(tensors, metadata={KEY: text}))


def load_meta(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Return the metadata of a file that `save_weights` wrote; UserError names a foreign, truncated or other file."""
    if not path.exists():
        raise UserError(f"{path}: not found, expected a network written by imbnas")
    try:
        # safetensors takes a file that may not be read for an absent one.
        open_regular(path, MODEL_LIMIT).close()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, expected a network written by imbnas") from None
    try:
        with safe_open(str(path), framework="pt") as stream:
            metadata = stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: not a whole safetensors file ({_first_line(error)}), expected a network written by imbnas"
        ) from None
    if KEY not in metadata:
        raise UserError(f"{path}: a safetensors file without imbnas metadata, expected a network written by imbnas")
    try:
        meta: dict[str, Any] = json.loads(metadata[KEY])
    except json.JSONDecodeError:
        raise UserError(f"{path}: its imbnas metadata is not JSON, expected a network written by imbnas") from None
    if not isinstance(meta, dict):
        raise UserError(f"{path}: its imbnas metadata is no mapping, expected a network written by imbnas")
    if meta.get("format") != FORMAT:
        raise UserError(f"{path}: format {meta.get('format')}, expected {FORMAT}; run the step that writes it again")
    if kind is not None and meta.get("kind") != kind:
        raise UserError(f"{path}: holds a {meta.get('kind')}, expected a {kind}")
    return meta


def load_weights(path: Path, kind: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors (on the CPU) and metadata of a file that `save_weights` wrote, checked as in `load_meta`."""
    meta = load_meta(path, kind)
    with safe_open(str(path), framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}, meta  # noqa: SIM118


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
