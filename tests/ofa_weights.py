"""Weights of a Once-for-All supernet by formula, under the names of its checkpoints: the same numbers everywhere."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from imbnas.spaces.ofa import OfaSpace
from imbnas.spaces.ofa_names import published_name

CLASSES = 1000


def published_state(space: OfaSpace, old: bool = False) -> dict[str, Tensor]:
    """Return a checkpoint's tensors, none of them what a new network has: matrices, scales and statistics too.

    `old`: under the names that the first checkpoints have.
    """
    state = space.supernet_on_meta(CLASSES, 3).state_dict()
    return {_spelt(published_name(name), old): _numbers(name, like.shape) for name, like in state.items()}


def image(side: int, rows: int = 2) -> Tensor:
    """Return images (rows, 3, side, side) by formula."""
    numbers = np.random.RandomState(side).uniform(-2.0, 2.0, (rows, 3, side, side))
    return torch.from_numpy(numbers.astype(np.float32))


def _spelt(plain: str, old: bool) -> str:
    """Return the name as the package spells it, whose elastic layers wrap plain ones."""
    name = plain
    if name.startswith("blocks.") and not name.startswith("blocks.0."):
        name = name.replace(".bn.", ".bn.bn.")
        if ".se." not in name:
            name = name.replace(".conv.weight", ".conv.conv.weight")
    return name.replace(".conv.", ".mobile_inverted_conv.", 1) if old and name.startswith("blocks.") else name


def _numbers(name: str, shape: Sequence[int]) -> Tensor:
    """Return numbers that keep activations of the order of 1."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    uniform = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1.0, 1.0, tuple(shape))
    if ".maps." in name:
        found = np.eye(shape[0]) + 0.2 * uniform
    elif len(shape) > 1:
        found = uniform * math.sqrt(4.0 / math.prod(shape[1:]))
    elif name.endswith(("running_var", ".weight")):
        found = 1.0 + 0.5 * uniform
    else:
        found = 0.2 * uniform
    return torch.from_numpy(found.astype(np.float32))
