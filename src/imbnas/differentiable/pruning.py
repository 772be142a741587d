"""Gradual pruning (GOLD-NAS, arXiv 2007.03331): a penalty grows until weak operations fall below a share, and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from imbnas.differentiable.relaxation import ArchitectureParameters
from imbnas.params.protocol_options import PruningParams
from imbnas.spaces.relaxed import Relaxed

LARGEST = 1.0e3
"""The largest step of the penalty's weight: beyond it the penalty alone moves the architecture, and sums overflow."""


def node_sums(values: Tensor, targets: Sequence[int]) -> Tensor:
    """Return for each edge of `values` (edges, operations) the sum over all edges that enter the same node, (edges, 1).

    `targets` are the nodes that the edges enter.
    """
    same = [[float(a == b) for b in targets] for a in targets]
    return (torch.tensor(same, dtype=values.dtype, device=values.device) * values.sum(dim=1)).sum(dim=1, keepdim=True)


def shares(weights: Tensor, targets: Sequence[int]) -> Tensor:
    """Return each operation's share of the weights of all operations that enter the same node."""
    return weights / node_sums(weights, targets).clamp(min=torch.finfo(weights.dtype).tiny)


def penalty(weights: Tensor, kept: Tensor, targets: Sequence[int]) -> Tensor:
    """Return the sum over operations of ln(1 + n s): s is an operation's share of its node, n how many the node keeps.

    Equal shares give n ln 2, the most that a node can have, and a single operation's ln 2 is the least. Where `kept` is
    false the weight is 0 and adds nothing.
    """
    return torch.log1p(node_sums(kept.to(weights.dtype), targets) * shares(weights, targets)).sum()


class Pruning:
    """The pruning of one search: the penalty's weight and its next step.

    Which operations are left is part of the architecture parameters, who give 0 as the weight of the others.
    """

    def __init__(self, plan: PruningParams, parameters: ArchitectureParameters) -> None:
        self.plan, self._parameters = plan, parameters
        self.weight, self.step = 0.0, plan.penalty

    @property
    def done(self) -> bool:
        """Return whether no kind of cell has more operations than are to be kept."""
        return all(int(kept.sum()) <= self.plan.keep for kept in self._parameters.kept.values())

    def loss(self, relaxed: Relaxed) -> Tensor | float:
        """Return the penalty on the weights of operations times its weight."""
        if not self.weight:
            return 0.0
        targets, kept = self._parameters.layout.targets, self._parameters.kept
        parts = [penalty(weights, kept[kind], targets) for kind, weights in relaxed.operations.items()]
        return self.weight * torch.stack(parts).sum()

    @torch.no_grad()
    def prune(self) -> int:
        """Prune after an epoch and return how many operations went.

        The operation with the smallest share goes first, the earlier one on ties; then shares are taken anew. At or
        below `least` all of them go, up to `threshold` at most `per_epoch`. A node keeps one in any case.
        """
        pruned, free = 0, self.plan.per_epoch
        while found := self._weakest():
            share, kind, place = found
            if share > self.plan.least:
                if share > self.plan.threshold or not free:
                    break
                free -= 1
            self._parameters.kept[kind].view(-1)[place] = False
            pruned += 1
        return pruned

    def close_epoch(self, *, learned: bool) -> dict[str, Any]:
        """Prune if the architecture has learned in this epoch, and return what that adds to the epoch's row."""
        used = self.weight if learned else 0.0
        if learned:
            self._reweigh(self.prune())
        kept = self._parameters.kept
        return {
            "penalty": used,
            "pruned": sum(int((~values).sum()) for values in kept.values()),
            **{f"kept_{kind}": values.flatten().tolist() for kind, values in kept.items()},
        }

    def snapshot(self) -> dict[str, Any]:
        """Return the state between two steps."""
        return {"weight": self.weight, "step": self.step}

    def take(self, saved: Mapping[str, Any]) -> None:
        """Take over what `snapshot` returned; KeyError and the like where it is not of this search."""
        self.weight, self.step = float(saved["weight"]), float(saved["step"])

    def _weakest(self) -> tuple[float, str, int] | None:
        """Return the smallest share of an operation that may go, its kind of cell and its place."""
        parameters, found = self._parameters, []
        targets = parameters.layout.targets
        for kind, weights in parameters().operations.items():
            kept = parameters.kept[kind]
            alone = node_sums(kept.double(), targets) <= 1.0
            if int(kept.sum()) > self.plan.keep:
                own = shares(weights.double(), targets).masked_fill(~kept | alone, float("inf"))
                found.append((float(own.min()), kind, int(own.argmin())))
        # The earlier kind on ties, whatever its name.
        share, kind, place = min(found, key=lambda entry: entry[0], default=(float("inf"), "", 0))
        return (share, kind, place) if share < float("inf") else None

    def _reweigh(self, pruned: int) -> None:
        """Set the penalty's weight for the next epoch: less after one that pruned enough, else more, and faster."""
        plan = self.plan
        if self.done:
            self.weight = 0.0
        elif pruned >= plan.per_epoch:
            self.weight, self.step = self.weight / plan.growth, plan.penalty
        else:
            self.step = min(self.step * plan.growth, LARGEST)
            self.weight += self.step
