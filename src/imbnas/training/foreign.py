"""Reading checkpoints of torch that other programs have written: tensors alone, never code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imbnas.errors import UserError
from imbnas.files import MODEL_LIMIT, open_regular
from imbnas.training.checkpoint import not_finite

EXPECTED = "expected a checkpoint of torch that holds tensors by name, or such a mapping under state_dict"


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, on the CPU; UserError for what is none, would run code, or is not finite."""
    try:
        with open_regular(path, MODEL_LIMIT) as stream:
            found: Any = torch.load(stream, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, {EXPECTED}") from None
    except pickle.UnpicklingError:
        raise UserError(f"{path}: holds other things than tensors, or is damaged, {EXPECTED}") from None
    # Whatever a damaged file brings about in torch's reader.
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: not a whole checkpoint ({reason}), {EXPECTED}") from None
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{path}: holds a {type(found).__name__} without entries by name, {EXPECTED}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{path}: entry {name!r} is a {type(value).__name__}, {EXPECTED}")
    if name := not_finite(dict(found)):
        raise UserError(f"{path}: tensor {name} holds numbers that are not finite, expected a trained network")
    return dict(found)
