"""The supernet of another project in place of a training (`supernet.reuse`)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from imbnas.data.checkpoint_file import checkpoint_meta, is_checkpoint
from imbnas.data.supernet_file import NAME
from imbnas.errors import UserError
from imbnas.files import digest_file
from imbnas.params.supernet import SupernetView
from imbnas.run.context import ELSEWHERE, Context
from imbnas.sealed import read_record
from imbnas.spaces.library import TorchvisionSpace
from imbnas.spaces.ofa_names import from_published
from imbnas.spaces.registry import make_space
from imbnas.steps.supernets import read_supernet
from imbnas.training.checkpoint import save_weights
from imbnas.training.foreign import read_checkpoint
from imbnas.training.history import write_losses


def take_over(view: SupernetView, context: Context) -> None:
    """Write the tensors of the file that `supernet.reuse` names as they are, and a table of losses without rows.

    The metadata are those of the file, seed and recipe of its own project among them, with its digest.
    """
    assert view.supernet.reuse is not None
    path = context.root / view.supernet.reuse
    digest = digest_file(path)
    try:
        read = _published if is_checkpoint(path) else _own
        weights, meta = read(path, view)
    except UserError as error:
        raise UserError(f"{NAME}: {error}") from None
    earlier = meta.get("reused")
    reused = {"sha256": digest, **({} if earlier is None else {"earlier": earlier})}
    _note_cost(path.with_suffix(".cost.json"), context)
    write_losses(context.path("supernet_losses"), [])
    save_weights(context.path("supernet"), weights, {**meta, "reused": reused})
    context.log(f"nothing is trained: the supernet is {view.supernet.reuse}, trained on {meta['dataset']} elsewhere")


def _own(path: Path, view: SupernetView) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return read_supernet(path, view.space, "supernet")


def _published(path: Path, view: SupernetView) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a published checkpoint under the supernet's names, and what is known of it."""
    meta = checkpoint_meta()
    space = make_space(view.space)
    like = space.supernet_on_meta(len(meta["classes"]), meta["shape"][2]).state_dict()
    found = read_checkpoint(path)
    try:
        if isinstance(space, TorchvisionSpace):
            weights = from_published(found, like, space.published_name, f"torchvision's {space.model}")
        else:
            weights = from_published(found, like)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return weights, {**meta, "space": view.space.described}


def _note_cost(file: Path, context: Context) -> None:
    """Let the details of the cost say what the supernet took in its own project, where `file` tells."""
    try:
        entry = read_record(file)["steps"]["supernet"]
        seconds = sum(float(entry[name]) for name in ("seconds", ELSEWHERE) if name in entry)
        if not 0.0 <= seconds < math.inf:
            raise ValueError
    except FileNotFoundError:
        context.log(f"what it took is not known: {file} not found, expected results/cost-details.json of its project")
    except (UserError, OSError, LookupError, TypeError, ValueError):
        context.log(f"what it took is not known: {file} is not results/cost-details.json as a project writes it")
    else:
        context.cost_notes[ELSEWHERE] = round(seconds, 3)
