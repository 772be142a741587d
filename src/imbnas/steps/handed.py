"""The weights that `search` hands on to `retrain`, in models/handed.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from imbnas.data.stored import Info
from imbnas.errors import UserError
from imbnas.params.inheritance import Init
from imbnas.params.space_options import SpaceParams
from imbnas.run.context import Context
from imbnas.steps.supernets import read_supernet
from imbnas.training.checkpoint import load_meta, save_weights

NOTHING = "nothing"
"""The kind of a file without weights."""
MIXTURE = "mixture"
"""The kind of a file with a network that is not trained again, see `handed_mixture`."""


def hand_on(
    context: Context, init: Init, space: SpaceParams, method: str, trained: dict[str, Tensor] | None = None
) -> None:
    """Write what `retrain` begins with: the adapted supernet, with the weights `trained` where the search trained it.

    Where `retrain` begins with new weights the file has the same bytes whatever the supernet is: another adaptation
    that ends in the same architecture then leaves `retrain` as it is.
    """
    path = context.path("handed")
    if init == "scratch":
        save_weights(path, {}, {"kind": NOTHING})
        return
    weights, meta = read_supernet(context.path("adapted"), space, "adapt")
    save_weights(path, weights if trained is None else trained, {**meta, "step": "search", "method": method})


def check_images(path: Path, meta: Mapping[str, Any], info: Info, writer: str) -> None:
    """Raise UserError for weights of other classes or images than `info` describes; `writer` makes them anew."""
    if meta["classes"] != list(info.classes) or meta["shape"] != list(info.shape):
        raise UserError(f"{path}: made for other classes or images than the target's, run {writer}")


def read_handed(context: Context, space: SpaceParams, info: Info) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights and the metadata of the supernet that the search has handed on.

    Raises UserError where it has handed on nothing, or a supernet for other classes or images than `info` describes.
    """
    path = context.path("handed")
    if load_meta(path).get("kind") == NOTHING:
        raise UserError(f"{path}: holds no weights, expected those for retrain.init handed, run search")
    weights, meta = read_supernet(path, space, "search")
    check_images(path, meta, info, "adapt")
    return weights, meta
