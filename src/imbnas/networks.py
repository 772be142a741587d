"""Finished networks read back from their files, for measuring and for using them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from imbnas.data.augment import Augment
from imbnas.data.raw import Shape
from imbnas.errors import UserError
from imbnas.longtail.heads import LINEAR, make_head
from imbnas.params.shared import SpaceParams
from imbnas.spaces.bilateral import BilateralSubnet
from imbnas.spaces.chain import Subnet
from imbnas.spaces.registry import make_space
from imbnas.training.weights import load_meta, load_weights

REFERENCES = ("random", "largest")
"""The networks that the chosen one is compared with, in the order in which they are shown."""
_EXPECTED = "expected a single network such as models/final.safetensors, the output of `imbnas retrain`"
_NEEDED = ("space", "architecture", "classes", "shape", "mean", "std", "load_side", "macs", "params")
_KINDS = {"supernet": "a supernet", "references": "the reference networks"}


@dataclass(frozen=True)
class Network:
    """A subnet in evaluation mode on the CPU, and the metadata of its file.

    `meta` holds classes, shape [H, W, C], mean, std, load_side, space, architecture, macs, params and how it was made.
    Where the head is not a linear one `head` describes it, see `heads.make_head`; `branches` is 2 for a two-branch
    network.
    """

    model: Subnet | BilateralSubnet
    meta: dict[str, Any]

    @property
    def shape(self) -> Shape:
        """The shape of the network's input."""
        return Shape(*self.meta["shape"])

    @property
    def load_side(self) -> int:
        """The side in pixels of the square to which an image file is scaled before the centre is cut out."""
        side: int = self.meta["load_side"]
        return side

    def preprocess(self) -> Augment:
        """Return what turns uint8 images (N, C, load_side, load_side) into the network's input, without randomness."""
        return Augment(self.shape, "none", pad=0, flip=False, cutout=0, mean=self.meta["mean"], std=self.meta["std"])


def load_subnet(path: Path) -> Network:
    """Return the network in a file of kind "subnet"; UserError for a missing, foreign, damaged or other file."""
    kind = load_meta(path).get("kind")
    if kind != "subnet":
        raise UserError(f"{path}: holds {_KINDS.get(str(kind), f'a {kind}')}, {_EXPECTED}")
    state, meta = load_weights(path, "subnet")
    return _build(path, state, meta)


def load_references(path: Path) -> dict[str, Network]:
    """Return the reference networks in a file of kind "references" by name; none when they were not trained."""
    state, meta = load_weights(path, "references")
    common = {key: value for key, value in meta.items() if key != "networks"}
    described = meta.get("networks", {})
    networks: dict[str, Network] = {}
    for name in (name for name in REFERENCES if name in described):
        tensors = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        networks[name] = _build(path, tensors, {**common, **described[name]})
    return networks


def _build(path: Path, state: dict[str, Tensor], meta: dict[str, Any]) -> Network:
    """Put the network together that `meta` describes and fill it with `state`; UserError when they do not fit."""
    missing = [name for name in _NEEDED if name not in meta]
    if missing:
        raise UserError(f"{path}: its metadata has no {missing[0]}, {_EXPECTED}")
    try:
        space = make_space(SpaceParams.model_validate_json(json.dumps(meta["space"])))
        classes, branches = len(meta["classes"]), meta.get("branches", 1)
        if branches not in (1, 2):
            raise UserError(f"branches: found {branches!r}, expected 1 or 2")
        build = space.build_subnet if branches == 1 else space.build_bilateral
        model = build(meta["architecture"], classes, meta["shape"][2])
        model.head = make_head(meta.get("head", LINEAR), space.subnet_features * branches, classes)
        model.load_state_dict(state)
    except (IndexError, TypeError, ValidationError, UserError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: tensors and metadata do not make a network ({type(error).__name__}: {reason}), {_EXPECTED}"
        ) from None
    return Network(model.eval(), meta)
