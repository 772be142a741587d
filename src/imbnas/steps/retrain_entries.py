"""The networks that `retrain` trains: the chosen one as `search` has recorded it, and its references."""

from __future__ import annotations

from typing import Any, NamedTuple

from imbnas.errors import UserError
from imbnas.params.retrain import RetrainView
from imbnas.run.context import Context
from imbnas.spaces.constraints import largest
from imbnas.spaces.networks import Architecture
from imbnas.spaces.space import SearchSpace
from imbnas.steps.limits_record import read_limits
from imbnas.steps.references import draw_references
from imbnas.steps.rows import Rows


class Networks(NamedTuple):
    """The architectures to train by name, and the one that teaches them first."""

    entries: dict[str, dict[str, Any]]
    teacher: Architecture | None
    """None: none does."""


def networks_to_train(found: Any, space: SearchSpace, context: Context, view: RetrainView, tail: Rows) -> Networks:
    """Return the networks to train, the chosen one checked against the space; UserError names the file."""
    path = context.path("architecture")
    if not isinstance(found, dict) or not {"space", "chosen", "limits"} <= set(found):
        raise UserError(f"{path}: not an architecture file, expected space, chosen and limits; run search")
    if found["space"] != view.space.name:
        raise UserError(f"{path}: is of the space {found['space']}, expected {view.space.name}; run search")
    try:
        chosen = space.check_canonical(found["chosen"]["architecture"])
    except (UserError, KeyError, TypeError) as error:
        raise UserError(f"{path}: chosen: {error}; run search") from None
    info = tail.split.info
    limits, table = read_limits(found, space.cost_table(info.shape, len(info.classes)), path)
    if not limits.allow(table.cost(chosen)):
        raise UserError(f"{path}: chosen: is not within the limits beside it; run search")
    references = draw_references(view.retrain.references, space, table, limits, chosen, view.seed, context.log)
    teacher = largest(table, limits) if view.retrain.distilled else None
    return Networks({"chosen": found["chosen"], **references}, teacher)
