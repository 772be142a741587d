"""Reading a supernet that an earlier step has written, checked against the parameters before its weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from imbnas.data.stored import Info
from imbnas.errors import UserError
from imbnas.longtail.heads import LINEAR, make_head
from imbnas.metadata import AdaptedMeta, SourceSupernetMeta, described
from imbnas.params.space_options import SpaceParams
from imbnas.spaces.implanted import hold_backbone
from imbnas.spaces.networks import Supernet
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import META, SearchSpace
from imbnas.training.checkpoint import load_header, load_meta, load_tensors


def head_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the classifier that metadata tell of."""
    head: dict[str, Any] = meta.get("head", LINEAR)
    return head


def check_space(path: Path, meta: Mapping[str, Any], space: SpaceParams, writer: str) -> None:
    """Raise UserError for weights of another space than `space`; the step `writer` makes them anew."""
    if meta["space"] != space.described:
        raise UserError(f"{path}: made for another space than `space` describes, run {writer}")


def read_supernet(path: Path, space: SpaceParams, writer: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and metadata of a supernet that the step `writer` has written.

    Raises UserError for a file that is missing, foreign, damaged or of another kind, for one of another space than
    `space`, and for tensors that are not those of such a supernet, or not finite.
    """
    header = load_header(path, "supernet")
    found = described(SourceSupernetMeta if writer == "supernet" else AdaptedMeta, header.meta, path)
    check_space(path, header.meta, space, writer)
    made = make_space(space)
    supernet = made.supernet_on_meta(len(found.classes), found.shape[2])
    with torch.device(META):
        supernet.head = make_head(head_of(header.meta), made.num_features, len(found.classes))
    header.check(supernet.state_dict())
    return load_tensors(header), header.meta


class Adapted(NamedTuple):
    """The tensors and metadata of an adapted supernet."""

    weights: dict[str, Tensor]
    meta: dict[str, Any]

    @property
    def head(self) -> dict[str, Any]:
        """Return the description of its classifier."""
        return head_of(self.meta)


def read_adapted(path: Path, space: SpaceParams, info: Info) -> Adapted:
    """Return the supernet that `adapt` has written for the classes and images of `info`.

    Raises UserError as `read_supernet` does, and for a supernet of other classes or images.
    """
    weights, meta = read_supernet(path, space, "adapt")
    if len(meta["classes"]) != len(info.classes) or meta["shape"] != list(info.shape):
        raise UserError(f"{path}: made for other classes or images than the target's, run adapt")
    return Adapted(weights, meta)


def build_adapted(space: SearchSpace, adapted: Adapted) -> Supernet:
    """Return the adapted supernet as a module, with its own classifier; implants have a backbone that is held."""
    classes = len(adapted.meta["classes"])
    supernet = space.build_supernet(classes, adapted.meta["shape"][2])
    supernet.head = make_head(adapted.head, space.num_features, classes)
    supernet.load_state_dict(adapted.weights)
    if adapted.meta["recipe"]["strategy"] == "implant":
        hold_backbone(supernet)
    return supernet


def reused_facts(path: Path) -> dict[str, Any]:
    """Return what results tell of a supernet that another project has trained; nothing of one that this one has.

    `path` is the adapted supernet; raises as `read_supernet` does.
    """
    found = described(AdaptedMeta, load_meta(path, "supernet"), path)
    if found.reused is None or found.source is None:
        return {}
    source = {"dataset": found.source.dataset, "classes": len(found.source.classes)}
    return {"supernet": {"sha256": found.reused.sha256, **source}}


def adapted_digests(path: Path) -> dict[str, str]:
    """Return the digests of what an adapted supernet was made from, by name; raises as `read_supernet` does."""
    return dict(described(AdaptedMeta, load_meta(path, "supernet"), path).digests)
