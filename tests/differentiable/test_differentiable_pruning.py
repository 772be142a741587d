"""Gradual pruning: the penalty's formula, which operations go and when, and the course of the penalty's weight."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from imbnas.differentiable.pruning import Pruning, penalty, shares
from imbnas.differentiable.relaxation import ArchitectureParameters
from imbnas.params.protocol_options import PruningParams
from imbnas.spaces.relaxed import Layout

TARGETS = (1, 2, 2)
"""Three edges: one into node 1, two into node 2."""


def parameters(weights: list[list[float]], kinds: tuple[str, ...] = ("cell",)) -> ArchitectureParameters:
    """Return sigmoids of these weights, (3, 2), of every kind."""
    made = ArchitectureParameters(Layout(kinds, TARGETS, ("skip", "conv")), "sigmoid", prunes=True)
    for kind in kinds:
        made.operations[kind].data = torch.tensor(weights).logit()
    return made


def pruning(made: ArchitectureParameters, **options: Any) -> Pruning:
    return Pruning(PruningParams(**{"per_epoch": 1, "threshold": 0.2, "least": 0.05, "keep": 1, **options}), made)


def gone(made: ArchitectureParameters, kind: str = "cell") -> list[int]:
    return (~made.kept[kind]).flatten().nonzero().flatten().tolist()


def test_the_penalty_is_of_shares_within_a_node_and_of_what_is_kept() -> None:
    weights = torch.tensor([[0.2, 0.6], [0.1, 0.3], [0.6, 0.0]], dtype=torch.float64, requires_grad=True)
    kept = torch.tensor([[True, True], [True, True], [True, False]])
    assert shares(weights, TARGETS).tolist() == [
        pytest.approx([0.25, 0.75]),
        pytest.approx([0.1, 0.3]),
        pytest.approx([0.6, 0.0]),
    ]
    found = penalty(weights, kept, TARGETS)
    # Node 1 keeps two operations, node 2 three.
    terms = [1 + 2 * 0.25, 1 + 2 * 0.75, 1 + 3 * 0.1, 1 + 3 * 0.3, 1 + 3 * 0.6]
    assert found.item() == pytest.approx(sum(map(math.log, terms)))
    # Down the penalty the weaker one loses: shares become less equal.
    (slope,) = torch.autograd.grad(found, weights)
    assert slope[0, 0] > 0 > slope[0, 1]
    equal = penalty(torch.full((3, 2), 0.5), torch.ones(3, 2, dtype=torch.bool), TARGETS)
    assert equal.item() == pytest.approx(6 * math.log(2))
    assert equal.item() > found.item()


def test_weak_operations_go_one_by_one_and_a_node_keeps_its_last() -> None:
    # Shares: node 1 has 1/9 and 8/9, node 2 has .0125, .25, .5 and .2375.
    made = parameters([[0.1, 0.8], [0.01, 0.2], [0.4, 0.19]])
    first = pruning(made)
    assert first.prune() == 2, "the one below `least`, and one more"
    assert gone(made) == [0, 2]
    weights = made().operations["cell"]
    assert weights.flatten().tolist() == pytest.approx([0.0, 0.8, 0.0, 0.2, 0.4, 0.19])
    assert weights.flatten()[[0, 2]].tolist() == [0.0, 0.0], "not nearly"
    (slope,) = torch.autograd.grad(weights.sum(), made.operations["cell"])
    assert slope.flatten()[[0, 2]].tolist() == [0.0, 0.0]
    assert (slope.flatten()[[1, 3, 4, 5]] > 0).all()
    # Of node 2 shares are now .253, .506 and .241: no one is weak.
    assert first.prune() == 0
    assert pruning(made, threshold=0.3, per_epoch=9).prune() == 1, "then two are left, and the least has a third"
    assert gone(made) == [0, 2, 5]
    assert pruning(made, threshold=0.99, per_epoch=9).prune() == 1
    assert gone(made) == [0, 2, 3, 5], "each node keeps one"
    # Weights that underflow: shares are 0, and the node keeps one all the same.
    made = parameters([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    made.operations["cell"].data[0] = -1.0e4
    assert pruning(made).prune() == 1
    assert gone(made) == [0]


def test_pruning_ends_with_the_operations_to_keep_in_each_kind() -> None:
    made = parameters([[0.1, 0.9], [0.1, 0.9], [0.1, 0.9]], ("normal", "reduce"))
    made.kept["reduce"][0, 0] = False
    found = pruning(made, threshold=0.4, per_epoch=100, keep=4)
    assert not found.done
    found.close_epoch(learned=True)
    assert (len(gone(made, "normal")), len(gone(made, "reduce"))) == (2, 2)
    assert found.done
    assert found.weight == 0.0
    assert found.prune() == 0


def test_the_penalty_grows_while_too_few_go_and_falls_again() -> None:
    made = parameters([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    found = pruning(made, penalty=0.001, per_epoch=2, growth=3.0)
    assert found.loss(made()) == 0.0
    rows = [found.close_epoch(learned=True) for _ in range(3)]
    # The step is tripled first and added then.
    assert [row["penalty"] for row in rows] == pytest.approx([0.0, 0.003, 0.012])
    assert found.weight == pytest.approx(0.003 + 0.009 + 0.027)
    expected = found.weight * penalty(made().operations["cell"], made.kept["cell"], TARGETS)
    assert torch.equal(torch.as_tensor(found.loss(made())), expected)
    assert found.close_epoch(learned=False) == {"penalty": 0.0, "pruned": 0, "kept_cell": [True] * 6}
    made.operations["cell"].data[1:] = torch.tensor([[0.01, 0.9], [0.01, 0.9]]).logit()
    row = found.close_epoch(learned=True)
    assert (row["pruned"], row["kept_cell"]) == (2, [True, True, False, True, False, True])
    assert found.weight == pytest.approx(0.039 / 3)
    again = pruning(made, penalty=0.001, per_epoch=2, growth=3.0)
    again.take(found.snapshot())
    assert (again.weight, again.step) == (found.weight, 0.001)
