"""Steps whose time does not follow from a trial of paths, each with the reason."""

from __future__ import annotations

from imbnas.params.config import Params
from imbnas.params.search import PROXY_METHODS

MIXTURE = "a mixture of all operations is trained, not paths"
IMPLANTS = "a part of each network is held"


def unestimated(params: Params) -> dict[str, str]:
    """Return why the time of a step is not known, for each such step; steps that do hardly anything are not among them.

    The trial times paths of the space in training and in evaluation. What a step does besides them has no pace here.
    """
    supernet, adapt, search = params.supernet, params.adapt, params.search
    implants = params.space.name == "implant"
    found: dict[str, str] = {}
    if supernet.reuse is None and supernet.epochs:
        if supernet.sampling == "mixture":
            found["supernet"] = MIXTURE
        elif implants:
            found["supernet"] = IMPLANTS
    if adapt.strategy != "none" and getattr(adapt, adapt.strategy).epochs:
        if adapt.sampling == "mixture":
            found["adapt"] = MIXTURE
        elif implants:
            found["adapt"] = IMPLANTS
    if search.method == "darts":
        found["search"] = "gradient descent on a continuous architecture"
        if search.darts.outcome == "mixture":
            found["retrain"] = found["evaluate"] = "the final network is a mixture of operations"
    elif search.method in PROXY_METHODS:
        found["search"] = "networks are scored at initialisation"
    elif search.shifting.updates:
        found["search"] = "the supernet is trained on meanwhile"
    if implants and params.retrain.init == "handed":
        found["retrain"] = IMPLANTS
    return found


def in_words(found: dict[str, str]) -> str:
    """Return the steps that are not estimated, those of one reason together; "" where there are none."""
    reasons = list(dict.fromkeys(found.values()))
    parts = [f"{' and '.join(step for step in found if found[step] == why)} ({why})" for why in reasons]
    return f"not estimated: {', '.join(parts)}" if parts else ""
