"""The expected cost against counted networks and brute-force expectations, and the penalty's form."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from imbnas.cell_graph import EDGES, OPERATIONS
from imbnas.differentiable.expected_cost import CostPenalty, costs_of, edge_chances, node_chances
from imbnas.params.space_options import SpaceParams
from imbnas.spaces.cost import CostTable, count
from imbnas.spaces.darts_genotype import CELLS, NODES, decode, edges, node_choices
from imbnas.spaces.registry import make_space
from imbnas.spaces.relaxed import Relaxed
from imbnas.spaces.space import SearchSpace

IMAGE, CLASSES = (8, 8, 1), 4
CELL_SPACE = {
    "name": "nasbench201",
    "stem": {"channels": 4},
    "stages": {"channels": [4, 8], "repeats": [1, 2], "strides": [1, 2]},
    "last_channels": None,
}
REAL = ("none", "skip_connect", "sep_conv_3x3")
NODE_SPACE = {
    "name": "darts",
    "darts": {"channels": 2, "layers": 3, "derived_channels": 4, "derived_layers": 3, "operations": list(REAL)},
}


@cache
def known(name: str) -> tuple[SearchSpace, CostTable]:
    given = CELL_SPACE if name == "nasbench201" else NODE_SPACE
    space = make_space(SpaceParams.model_validate(given))
    return space, space.cost_table(IMAGE, CLASSES)


def penalty(name: str, figure: str, **given: float) -> CostPenalty:
    _, table = known(name)
    fixed, rows = costs_of(table, figure)  # type: ignore[arg-type]
    chances = edge_chances if name == "nasbench201" else node_chances(REAL)
    options = {"most": 1000.0, "lower": None, "upper": None, "scale": 15.0, "start": 0, **given}
    return CostPenalty(fixed, rows, chances, **options)  # type: ignore[arg-type]


def one_hot(name: str, architecture: tuple[int, ...]) -> Relaxed:
    """Return weights of which one operation per edge has all: `none` where DARTS' nodes take no edge."""
    if name == "nasbench201":
        return Relaxed({"cell": torch.eye(len(OPERATIONS))[list(architecture)]})
    operations = {}
    for kind, cell in zip(CELLS, decode(architecture, REAL), strict=True):
        taken = {(node, source): name for node, pairs in enumerate(cell) for source, name in pairs}
        operations[kind] = torch.eye(len(REAL))[[REAL.index(taken.get(edge, "none")) for edge in edges()]]
    return Relaxed(operations)


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_of_one_hot_weights_it_is_what_the_counted_network_has(name: str) -> None:
    space, _ = known(name)
    rng = np.random.default_rng(0)
    for architecture in [space.sample(rng) for _ in range(3)]:
        counted = count(space.build_subnet(architecture, CLASSES, IMAGE[2]), IMAGE)
        for figure in ("macs", "params"):
            found = penalty(name, figure).expected(one_hot(name, architecture))
            assert float(found) == getattr(counted, figure)


def test_on_edges_it_is_the_mean_over_all_cells_by_their_chances() -> None:
    _, table = known("nasbench201")
    weights = torch.rand(len(EDGES), len(OPERATIONS), generator=torch.Generator().manual_seed(0)).double()
    weights = weights / weights.sum(dim=1, keepdim=True)
    mean = 0.0
    for cell in itertools.product(range(len(OPERATIONS)), repeat=len(EDGES)):
        chance = 1.0
        cost = table.fixed.macs
        for edge, choice in enumerate(cell):
            chance *= float(weights[edge, choice])
            cost += table.blocks[edge][choice].macs
        mean += chance * cost
    assert float(penalty("nasbench201", "macs").expected(Relaxed({"cell": weights}))) == pytest.approx(mean, rel=1e-9)


def test_sigmoids_have_no_none_and_count_each_by_itself() -> None:
    _, table = known("nasbench201")
    weights = torch.full((len(EDGES), len(OPERATIONS) - 1), 0.5)
    whole = sum(cost.params for row in table.blocks for cost in row)
    found = penalty("nasbench201", "params").expected(Relaxed({"cell": weights}))
    assert float(found) == table.fixed.params + whole / 2


def test_on_nodes_pairs_are_as_likely_as_the_products_of_their_weights() -> None:
    _, table = known("darts")
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> dict[str, Tensor]:
        return {kind: torch.rand(shape, generator=generator).double() for kind in CELLS}

    relaxed = Relaxed(drawn(len(edges()), len(REAL)), drawn(len(edges())))
    mean = float(table.fixed.params)
    for place, row in enumerate(table.blocks):
        kind, node = CELLS[place // NODES], place % NODES
        chances = []
        for choice in node_choices(node, REAL):
            chance = float(len(choice) == 2)
            for source, name in choice:
                edge = edges().index((node, source))
                chance *= float(relaxed.operations[kind][edge, REAL.index(name)] * relaxed.edges[kind][edge])
            chances.append(chance)
        mean += sum(c * cost.params for c, cost in zip(chances, row, strict=True)) / sum(chances)
    assert float(penalty("darts", "params").expected(relaxed)) == pytest.approx(mean, rel=1e-12)


def test_nodes_without_a_pair_of_weight_count_all_pairs_alike() -> None:
    _, table = known("darts")
    none = Relaxed({kind: torch.eye(len(REAL))[[0] * len(edges())] for kind in CELLS})
    pairs = [
        [cost.macs for cost, choice in zip(row, node_choices(place % NODES, REAL), strict=True) if len(choice) == 2]
        for place, row in enumerate(table.blocks)
    ]
    mean = table.fixed.macs + sum(sum(row) / len(row) for row in pairs)
    assert float(penalty("darts", "macs").expected(none)) == pytest.approx(mean, rel=1e-12)


def test_the_penalty_is_the_distance_from_the_bounds_over_the_most_and_the_temperature() -> None:
    _, table = known("nasbench201")
    relaxed = one_hot("nasbench201", (3, 3, 0, 2, 3, 1))
    cost = table.cost((3, 3, 0, 2, 3, 1)).params

    def paid(epoch: int = 2, temperature: float = 1.0, **given: float) -> float | None:
        found = penalty("nasbench201", "params", most=4000.0, **given)(relaxed, epoch, temperature)
        return None if found is None else float(found)

    assert paid(lower=cost - 400, upper=cost + 400) == 0.0
    assert paid(upper=cost - 400) == pytest.approx(15.0 * 0.1)
    assert paid(lower=cost + 400) == pytest.approx(15.0 * 0.1)
    assert paid(upper=cost - 400, temperature=0.5, scale=3.0) == pytest.approx(3.0 / 0.5 * 0.1)
    assert paid(upper=cost - 400, start=3) is None
    assert paid(epoch=3, upper=cost - 400, start=3) == pytest.approx(1.5)


def test_its_gradient_is_the_costs_of_the_operations() -> None:
    _, table = known("nasbench201")
    weights = torch.full((len(EDGES), len(OPERATIONS)), 0.2, requires_grad=True)
    found = penalty("nasbench201", "macs", upper=0.0, scale=1.0, most=1.0)(Relaxed({"cell": weights}), 0)
    assert found is not None
    (gradient,) = torch.autograd.grad(found, weights)
    expected = torch.tensor([[cost.macs for cost in row] for row in table.blocks], dtype=torch.float32)
    torch.testing.assert_close(gradient, expected)
