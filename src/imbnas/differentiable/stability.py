"""Signs that an architecture has settled: how far operations' weights have moved since an earlier epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from imbnas.params.differentiable import DartsParams
from imbnas.spaces.relaxed import Relaxed


def divergence(first: Tensor, second: Tensor, *, shares: bool) -> float:
    """Return the mean over edges of the Jensen-Shannon divergence of weights (edges, operations), in nats.

    Where the weights of an edge do not share 1 (`shares`), each is a chance of its own, and the mean is over operations
    too. It is at most log 2.
    """
    p, q = first.double(), second.double()
    if not shares:
        p, q = (torch.stack([x, 1.0 - x], dim=-1).flatten(0, 1) for x in (p, q))
    middle = (p + q) / 2.0
    # 0 log 0 is 0: an operation that weighs 0 adds nothing.
    sides = [torch.special.xlogy(x, torch.where(x > 0.0, x / middle, 1.0)).sum(dim=1) for x in (p, q)]
    # Rounding may leave the divergence of equal weights below 0.
    return float(((sides[0] + sides[1]) / 2.0).clamp(min=0.0).mean())


class Settling:
    """The stopping rule of one search; what it remembers lies in the rows of epochs, which are saved."""

    def __init__(self, params: DartsParams) -> None:
        self._plan, self._warmup = params.stability, params.architecture.warmup
        self._shares = params.relaxation != "sigmoid"

    def row(self, relaxed: Relaxed, rows: Sequence[Mapping[str, Any]], *, learning: bool) -> dict[str, Any]:
        """Return what the rule adds to the row of the epoch after `rows`: its weights, and how far they have moved.

        While only the network's weights learn, in a warmup, the architecture rests, which is not to be taken for having
        settled: the first comparison is with the end of the warmup. Nothing is added where nothing is measured.
        """
        if not self._plan.divergence:
            return {}
        weights = torch.cat([values.detach().cpu() for values in relaxed.operations.values()])
        then, found = len(rows) - self._plan.back, None
        if learning and then >= max(self._warmup - 1, 0):
            found = divergence(torch.tensor(rows[then]["weights"]), weights, shares=self._shares)
        return {"weights": weights.tolist(), "divergence": found}

    def reached(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether the divergences of the last `patience` epochs are all below the threshold."""
        last = [row["divergence"] for row in rows[-self._plan.patience :]]
        return len(last) == self._plan.patience and all(
            value is not None and value < self._plan.divergence for value in last
        )

    @property
    def words(self) -> str:
        """The reason why the search stops."""
        plan = self._plan
        return (
            f"the architecture has settled (Jensen-Shannon divergence below {plan.divergence:g} in {plan.patience} "
            "epochs in a row)"
        )
