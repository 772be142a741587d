"""Every order of the parameters has its strategy, and says when it needs rows of the architecture."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from imbnas.differentiable.bilevel import Levels
from imbnas.differentiable.strategies import STRATEGIES, Start
from imbnas.params.differentiable import DartsParams
from imbnas.params.zeroth_options import ZerothParams
from imbnas.training.optimizer import make_optimizer


def started(order: str, *, learns: bool = True) -> Start:
    params = DartsParams(order=order, zeroth=ZerothParams(period=3))  # type: ignore[arg-type]
    learner = nn.Linear(2, 2)
    optimizer = make_optimizer(learner, params.optimizer) if learns else None
    return Start(params, learner, nn.Linear(1, 1), optimizer, 0)


def test_every_order_of_the_parameters_has_its_strategy() -> None:
    assert set(STRATEGIES) == set(get_args(DartsParams.model_fields["order"].annotation))
    for order, make in STRATEGIES.items():
        strategy = make(started(order))
        assert [strategy.needs_rows(step) for step in range(4)] == (
            [False, False, True, False] if order == "zeroth" else [True] * 4
        )
        assert strategy.snapshot() == {}


def test_orders_beyond_the_first_need_weights_that_learn() -> None:
    levels = Levels(lambda: torch.zeros(()), lambda: torch.zeros(()), [], None, 0.1)
    with pytest.raises(ValueError, match="second order needs weights that learn"):
        STRATEGIES["second"](started("second", learns=False)).before(0, levels)
    with pytest.raises(ValueError, match="zeroth order needs weights that learn"):
        STRATEGIES["zeroth"](started("zeroth", learns=False))


def test_a_state_of_another_order_is_not_taken() -> None:
    strategy = STRATEGIES["zeroth"](started("zeroth"))
    strategy.before(0, Levels(lambda: torch.zeros(()), lambda: torch.zeros(()), [], None, 0.1))
    saved = strategy.snapshot()
    again = STRATEGIES["zeroth"](started("zeroth"))
    again.take(saved)
    assert again.snapshot()["began"] == 0
    with pytest.raises(ValueError, match="expected none"):
        STRATEGIES["first"](started("first")).take(saved)
