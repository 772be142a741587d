"""The expected cost of a relaxed architecture, and the penalty for leaving its bounds (ZO-DARTS++, arXiv 2503.06092).

Weights of operations say how likely each candidate of each row of the space's cost table is; the expectation over the
table is differentiable in them, and the cost itself once they are one-hot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from imbnas.cell_graph import OPERATIONS
from imbnas.spaces.cost import CostTable
from imbnas.spaces.darts_genotype import CELLS, NODES, edges, node_choices
from imbnas.spaces.relaxed import Relaxed

Chances = Callable[[Relaxed], list[Tensor]]
"""Returns a chance for each candidate of each row of a cost table."""
KIND = "cell"


@dataclass(frozen=True)
class CostPenalty:
    """The penalty scale / temperature * (relu(P - upper) + relu(lower - P)) / most, P the expected cost.

    `rows` are the costs of a table's rows, `fixed` what all networks share, `most` that of the largest architecture.
    """

    fixed: float
    rows: tuple[Tensor, ...]
    chances: Chances
    most: float
    lower: float | None
    upper: float | None
    scale: float
    start: int

    def expected(self, relaxed: Relaxed) -> Tensor:
        """Return P in float64: MACs and parameters have more digits than float32."""
        pairs = zip(self.chances(relaxed), self.rows, strict=True)
        total = torch.stack([(chances.double() * costs.to(chances.device)).sum() for chances, costs in pairs]).sum()
        return self.fixed + total

    def __call__(self, relaxed: Relaxed, epoch: int, temperature: float = 1.0) -> Tensor | None:
        """Return the penalty in an epoch, None where it has not begun."""
        if epoch < self.start:
            return None
        found = self.expected(relaxed)
        away = torch.zeros_like(found)
        if self.upper is not None:
            away = away + (found - self.upper).relu()
        if self.lower is not None:
            away = away + (self.lower - found).relu()
        return self.scale / temperature * away / self.most


def costs_of(table: CostTable, name: Literal["macs", "params"]) -> tuple[float, tuple[Tensor, ...]]:
    """Return one figure of a cost table: of what all networks share, and of each row's candidates."""
    rows = tuple(torch.tensor([getattr(cost, name) for cost in row], dtype=torch.float64) for row in table.blocks)
    return float(getattr(table.fixed, name)), rows


def edge_chances(relaxed: Relaxed) -> list[Tensor]:
    """Return the chances on NAS-Bench-201's edges: the weights themselves.

    A sigmoid's operations have no `none` and count as present each with its own chance. Operations of an edge that
    leads nowhere are counted, as they are in the mixture.
    """
    weights = relaxed.operations[KIND]
    missing = len(OPERATIONS) - weights.shape[1]
    return list(torch.nn.functional.pad(weights, (missing, 0)).unbind())


def node_chances(operations: Sequence[str]) -> Chances:
    """Return the chances on the nodes of DARTS' cells, each of which takes two edges with an operation on each.

    A pair is as likely as the product of its weights (edge weights included, where there are any) among the node's
    pairs. A node of a single edge, which FairDARTS' threshold alone leaves, has no chance.
    """
    rows = edges()
    places: list[tuple[Tensor, int]] = []
    for node in range(NODES):
        found = node_choices(node, operations)
        pairs = [
            [rows.index((node, source)) * len(operations) + operations.index(name) for source, name in choice]
            for choice in found
            if len(choice) == 2
        ]
        places.append((torch.tensor(pairs), len(found) - len(pairs)))

    def chances(relaxed: Relaxed) -> list[Tensor]:
        result = []
        for kind in CELLS:
            weights = relaxed.operations[kind]
            if relaxed.edges:
                weights = weights * relaxed.edges[kind].unsqueeze(1)
            flat = weights.double().flatten()
            for pairs, singles in places:
                products = flat[pairs.to(flat.device)].prod(dim=1)
                total = products.sum()
                # Where `none` has all of a node's edges, or all but one, every pair is as likely as any other.
                shares = products / total if float(total.detach()) else torch.full_like(products, 1.0 / len(pairs))
                result.append(torch.nn.functional.pad(shares, (0, singles)))
        return result

    return chances
