"""The Jensen-Shannon divergence of an architecture's weights, and the rule that stops a search by it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from imbnas.differentiable.stability import Settling, divergence
from imbnas.params.differentiable import DartsParams
from imbnas.spaces.relaxed import Relaxed

ONE, OTHER, HALF = [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]


@pytest.mark.parametrize(
    ("first", "second", "shares", "expected"),
    [
        ([ONE], [OTHER], True, math.log(2.0)),
        ([ONE, HALF], [OTHER, HALF], True, math.log(2.0) / 2),
        ([HALF], [HALF], True, 0.0),
        # m = (3/4, 1/4): KL((1, 0) | m) = log 4/3, KL(half | m) = (log 2/3 + log 2) / 2.
        ([ONE], [HALF], True, (math.log(4 / 3) + math.log(4 / 3) / 2) / 2),
        # Of sigmoids each is a chance of its own: the first of the two has not moved.
        ([[0.5, 1.0]], [[0.5, 0.0]], False, math.log(2.0) / 2),
    ],
)
def test_the_divergence_is_the_definition(first: Any, second: Any, shares: bool, expected: float) -> None:
    p, q = torch.tensor(first), torch.tensor(second)
    assert divergence(p, q, shares=shares) == pytest.approx(expected, abs=1e-12)
    assert divergence(q, p, shares=shares) == pytest.approx(expected, abs=1e-12)


def test_a_search_settles_after_its_patience_and_not_in_its_warmup() -> None:
    params = DartsParams.model_validate(
        {"epochs": 9, "architecture": {"warmup": 2}, "stability": {"divergence": 0.05, "back": 1, "patience": 2}}
    )
    rule, rows = Settling(params), []
    reached = []
    # It rests twice, moves far, and then little.
    for share in (0.5, 0.5, 1.0, 0.9, 0.85, 0.84):
        row = rule.row(Relaxed({"cell": torch.tensor([[share, 1.0 - share]])}), rows, learning=True)
        rows.append(row)
        reached.append(rule.reached(rows))
    values = [row["divergence"] for row in rows]
    assert values[:2] == [None, None]
    assert values[2] > 0.2
    assert 0.0 < values[5] < values[4] < 0.05
    assert reached == [False, False, False, False, values[3] < 0.05, True]
    assert Settling(DartsParams()).row(Relaxed({}), [], learning=True) == {}
