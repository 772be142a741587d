"""Reading a supernet that an earlier step has written, checked against the parameters before its weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imbnas.errors import UserError
from imbnas.longtail.heads import LINEAR, make_head
from imbnas.metadata import AdaptedMeta, SupernetMeta, described
from imbnas.params.shared import SpaceParams
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import META
from imbnas.training.checkpoint import load_header, load_meta, load_tensors


def read_supernet(path: Path, space: SpaceParams, writer: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and metadata of a supernet that the step `writer` has written.

    Raises UserError for a file that is missing, foreign, damaged or of another kind, for one of another space than
    `space`, and for tensors that are not those of such a supernet, or not finite.
    """
    header = load_header(path, "supernet")
    found = described(AdaptedMeta if writer == "adapt" else SupernetMeta, header.meta, path)
    if header.meta["space"] != space.model_dump(mode="json"):
        raise UserError(f"{path}: made for another space than `space` describes, run {writer}")
    made = make_space(space)
    supernet = made.supernet_on_meta(len(found.classes), found.shape[2])
    with torch.device(META):
        supernet.head = make_head(header.meta.get("head", LINEAR), made.num_features, len(found.classes))
    header.check(supernet.state_dict())
    return load_tensors(header), header.meta


def adapted_digests(path: Path) -> dict[str, str]:
    """Return the digests of what an adapted supernet was made from, by name; raises as `read_supernet` does."""
    return dict(described(AdaptedMeta, load_meta(path, "supernet"), path).digests)
