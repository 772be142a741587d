"""Networks on disk: safetensors whose one metadata entry is canonical JSON, so that equal networks are equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from imbnas.errors import UserError
from imbnas.files import MODEL_LIMIT, canonical_json, open_regular, write_bytes
from imbnas.weights_meta import EXPECTED, FORMAT, HEADER_LIMIT, KEY, checked_meta

_TYPES = {torch.float32: "F32", torch.int64: "I64", torch.int32: "I32"}


def save_weights(path: Path, state: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and metadata by rename.

    `meta` holds JSON values and must name its `kind` ("supernet", "subnet" or "references"). safetensors keeps metadata
    in a hash map of random order; with a single entry the bytes are a function of the content. Raises UserError for a
    tensor with numbers that are not finite: such a network would be somebody else's riddle.
    """
    if name := not_finite(state):
        raise UserError(
            f"{path}: not written, the new {name} holds numbers that are not finite, expected a network without; "
            "lower a learning rate, or see what its rows hold"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    text = canonical_json({"format": FORMAT, **meta})
    # The library's own writer leaves a name of its own behind when it is killed, and a mode that is nobody's choice.
    write_bytes(path, save(tensors, metadata={KEY: text}))


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with NaN or infinity in it, None where there is none."""
    chosen = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    if not chosen:
        return None
    # One answer for all: on a GPU each costs a wait.
    whole = torch.stack([tensor.detach().isfinite().all() for tensor in chosen.values()]).tolist()
    return next((name for name, fine in zip(chosen, whole, strict=True) if not fine), None)


@dataclass(frozen=True)
class Header:
    """The header of a file, before any tensor is read: its metadata, and each tensor's type and shape."""

    path: Path
    meta: dict[str, Any]
    tensors: dict[str, tuple[str, tuple[int, ...]]]

    def check(self, expected: Mapping[str, Tensor]) -> None:
        """Raise UserError unless the tensors are those of a network with the state `expected`, meta tensors or real."""
        for name, tensor in expected.items():
            wanted = (_TYPES[tensor.dtype], tuple(tensor.shape))
            found = self.tensors.get(name)
            if found != wanted:
                text = "has no tensor" if found is None else f"found {_text(found)} as tensor"
                raise UserError(
                    f"{self.path}: {text} {name}, expected {_text(wanted)}, as its metadata describe the network"
                )
        for name in self.tensors:
            if name not in expected:
                raise UserError(f"{self.path}: found a tensor {name}, expected none of that name in such a network")


def load_header(path: Path, kind: str | None = None) -> Header:
    """Return the header of a file that `save_weights` wrote; UserError names a foreign, truncated or other file."""
    if not path.exists():
        raise UserError(f"{path}: not found, {EXPECTED}")
    try:
        # safetensors takes a file that may not be read for an absent one.
        with open_regular(path, MODEL_LIMIT) as stream:
            length = int.from_bytes(stream.read(8), "little")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, {EXPECTED}") from None
    if length > HEADER_LIMIT:
        fault = f"a header of {length:,} bytes, more than {HEADER_LIMIT:,}"
        raise UserError(f"{path}: not a whole safetensors file ({fault}), {EXPECTED}")
    try:
        with safe_open(str(path), framework="pt") as opened:
            metadata = opened.metadata() or {}
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            tensors = {name: (str(part.get_dtype()), tuple(part.get_shape())) for name, part in slices.items()}
    # Its own errors, and whatever else a damaged header brings about in it.
    except Exception as error:
        raise UserError(f"{path}: not a whole safetensors file ({_first_line(error)}), {EXPECTED}") from None
    return Header(path, checked_meta(path, metadata, kind), tensors)


def load_meta(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Return the metadata of a file that `save_weights` wrote, checked as in `load_header`."""
    return load_header(path, kind).meta


def load_weights(path: Path, kind: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors (on the CPU) and metadata of a file that `save_weights` wrote, checked as in `load_header`."""
    header = load_header(path, kind)
    return load_tensors(header), header.meta


def load_tensors(header: Header) -> dict[str, Tensor]:
    """Return the tensors of a file whose header is known, on the CPU; UserError for one that is not finite."""
    with safe_open(str(header.path), framework="pt") as stream:
        # Copies, in memory that torch aligns: in the file a tensor begins wherever the metadata end, and a convolution
        # may give other last bits for other alignments.
        tensors = {name: stream.get_tensor(name).clone() for name in header.tensors}
    if name := not_finite(tensors):
        raise UserError(f"{header.path}: tensor {name} holds numbers that are not finite, expected a trained network")
    return tensors


def _text(found: tuple[str, tuple[int, ...]]) -> str:
    return f"{found[0]} {list(found[1])}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
