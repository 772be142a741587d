"""Finished networks read back from their files, for measuring and for using them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imbnas.approximate.carried import TENSOR, expected_tensor, read_placement
from imbnas.data.augment import Augment
from imbnas.data.raw import Reading, Shape
from imbnas.errors import UserError
from imbnas.longtail.heads import LINEAR, make_head
from imbnas.metadata import ReferencesMeta, SubnetMeta, described
from imbnas.network_names import by_place
from imbnas.spaces.bilateral import BilateralSubnet
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import META, SearchSpace
from imbnas.training.checkpoint import load_header, load_tensors

_EXPECTED = "expected a single network such as models/final.safetensors, the output of `imbnas retrain`"
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
    path: Path

    @property
    def shape(self) -> Shape:
        """The shape of the network's input."""
        return Shape(*self.meta["shape"])

    @property
    def load_side(self) -> int:
        """The side in pixels of the square to which an image file is scaled before the centre is cut out."""
        side: int = self.meta["load_side"]
        return side

    def finite(self, logits: Tensor) -> Tensor:
        """Return the network's answers; raise UserError if they are not finite, which finite weights do not prevent."""
        if not bool(torch.isfinite(logits).all()):
            raise UserError(f"{self.path}: its answers are not finite numbers, expected a trained network")
        return logits

    @property
    def reading(self) -> Reading:
        """The way from an image file to the input of `preprocess`."""
        pad, upright = self.meta.get("resize") == "pad", self.meta.get("exif_rotation", True)
        return Reading(self.load_side, self.shape.channels, pad, upright)

    def preprocess(self) -> Augment:
        """Return what turns uint8 images (N, C, load_side, load_side) into the network's input, without randomness."""
        return Augment(self.shape, "none", pad=0, flip=False, cutout=0, mean=self.meta["mean"], std=self.meta["std"])


def load_subnet(path: Path) -> Network:
    """Return the network in a file of kind "subnet"; UserError for a missing, foreign, damaged or other file."""
    header = load_header(path)
    kind = header.meta.get("kind")
    if kind != "subnet":
        raise UserError(f"{path}: holds {_KINDS.get(str(kind), f'a {kind}')}, {_EXPECTED}")
    made = _Made(path, described(SubnetMeta, header.meta, path), header.meta)
    header.check({**made.empty().state_dict(), **expected_tensor(header.meta.get("approximate"))})
    return made.network(load_tensors(header))


def load_references(path: Path) -> dict[str, Network]:
    """Return the reference networks in a file of kind "references" by name, in the order in which they are shown."""
    header = load_header(path, "references")
    found = described(ReferencesMeta, header.meta, path)
    common = {key: value for key, value in header.meta.items() if key != "networks"}
    made: dict[str, _Made] = {}
    for name in sorted(found.networks, key=by_place):
        meta = {**common, **header.meta["networks"][name]}
        made[name] = _Made(path, described(SubnetMeta, meta, path), meta)
    expected = {
        f"{name}.{key}": tensor for name, one in made.items() for key, tensor in one.empty().state_dict().items()
    }
    carried = expected_tensor(common.get("approximate"))
    header.check({**expected, **carried})
    state = load_tensors(header)
    shared = {key: state[key] for key in carried}
    return {
        name: one.network(
            {key.removeprefix(f"{name}."): state[key] for key in state if key.startswith(f"{name}.")} | shared
        )
        for name, one in made.items()
    }


@dataclass(frozen=True)
class _Made:
    """A network that is to be put together as its metadata say."""

    path: Path
    described: SubnetMeta
    meta: dict[str, Any]

    def empty(self) -> Subnet | BilateralSubnet:
        """Return the network without memory for its weights; UserError where the space has none such."""
        found = self.described
        try:
            space = make_space(found.space)
            model = self._model(space, space.check_canonical(found.architecture))
        except UserError as error:
            raise UserError(f"{self.path}: its metadata: {error}, {_EXPECTED}") from None
        with torch.device(META):
            model.head = make_head(
                self.meta.get("head", LINEAR), space.subnet_features * found.branches, len(found.classes)
            )
        return model

    def _model(self, space: SearchSpace, architecture: Architecture) -> Subnet | BilateralSubnet:
        found = self.described
        size = len(found.classes), found.shape[2]
        if found.mixture is not None:
            if found.branches != 1:
                raise UserError(f"mixture: found one with {found.branches} branches, expected one")
            return space.mixture_on_meta(found.mixture, *size)
        build = space.subnet_on_meta if found.branches == 1 else space.bilateral_on_meta
        return build(architecture, *size)

    def network(self, state: dict[str, Tensor]) -> Network:
        """Return the network with its weights, which are known to fit, and its multiplier if it has one."""
        placement = read_placement(self.meta.get("approximate"), state, self.path)
        model = self.empty()
        model.load_state_dict({name: value for name, value in state.items() if name != TENSOR}, assign=True)
        if placement is not None:
            placement.apply(model)
        return Network(model.eval(), self.meta, self.path)
