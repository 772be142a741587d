"""The definition of a differentiable search: what is trained on what, and how the architecture is described."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from imbnas.data.augment import Augment
from imbnas.differentiable.expected_cost import CostPenalty
from imbnas.differentiable.feeds import Feed
from imbnas.differentiable.learners import Learner
from imbnas.differentiable.relaxation import ArchitectureParameters
from imbnas.params.differentiable import DartsParams
from imbnas.spaces.relaxed import Relaxed
from imbnas.training.definition import Objective, Store


@dataclass(frozen=True)
class BilevelSearch:
    """One differentiable search: what is trained on what, by which parameters.

    `frozen` leaves the weights as they are, so that the architecture alone is searched. `feeds[level]` has one feed per
    draw of the learner: level 0 feeds the weights, level 1 the architecture. `objective` is the loss of both levels,
    `outer` that of the architecture where it has one of its own. `describe(weights, epoch)` adds to an epoch's row: the
    derived architecture, its score and the like. `joined` feeds the weights once the architecture is frozen, where that
    is to be. `cost` is what the architecture's level pays for expected costs.
    """

    params: DartsParams
    frozen: bool
    learner: Learner
    parameters: ArchitectureParameters
    store: Store
    augment: Augment
    feeds: tuple[Sequence[Feed], Sequence[Feed]]
    objective: Objective
    seed: int
    describe: Callable[[Relaxed, int], dict[str, Any]]
    name: str = "search"
    outer: Objective | None = None
    joined: Sequence[Feed] = ()
    cost: CostPenalty | None = None
