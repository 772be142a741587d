"""Adam: its steps, and its state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from imbnas.params.recipe import OptimizerParams
from imbnas.training.adam import Adam


def stepped(optimizer: Adam, model: nn.Module, inputs: torch.Tensor) -> None:
    optimizer.zero_grad()
    model(inputs).square().sum().backward()
    optimizer.step()


def models() -> list[nn.Linear]:
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(nn.Linear(4, 3).double())
    return made


def test_steps_are_those_of_the_paper() -> None:
    """Algorithm 1 of Kingma and Ba, number by number, with a rate that falls."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    model = nn.Module()
    model.weight = weight
    optimizer, point = Adam(model, OptimizerParams(lr=0.05)), [1.0, -2.0]
    mean, square = [0.0, 0.0], [0.0, 0.0]
    for step in range(1, 21):
        optimizer.set_rate(0.05 / step)
        optimizer.zero_grad()
        (torch.tensor([3.0, 0.1]) * weight.square()).sum().backward()
        optimizer.step()
        for k, factor in enumerate((3.0, 0.1)):
            gradient = 2.0 * torch.tensor(factor).item() * point[k]
            mean[k] = 0.9 * mean[k] + 0.1 * gradient
            square[k] = 0.999 * square[k] + 0.001 * gradient**2
            moved = mean[k] / (1.0 - 0.9**step) / (math.sqrt(square[k] / (1.0 - 0.999**step)) + 1e-8)
            point[k] -= 0.05 / step * moved
    assert weight.tolist() == pytest.approx(point, rel=1e-10)


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    (through, cut), inputs = models(), torch.randn(5, 4, dtype=torch.float64)
    first, second = Adam(through, OptimizerParams()), Adam(cut, OptimizerParams())
    for optimizer, model in ((first, through), (second, cut)):
        for _ in range(3):
            stepped(optimizer, model, inputs)
    resumed = Adam(cut, OptimizerParams())
    resumed.load_state_dict(second.state_dict())
    stepped(first, through, inputs)
    stepped(resumed, cut, inputs)
    assert torch.equal(through.weight, cut.weight)


def test_a_state_that_does_not_fit_is_refused() -> None:
    saved = Adam(nn.Linear(4, 3), OptimizerParams()).state_dict()
    for wrong in (Adam(nn.Linear(4, 2), OptimizerParams()).state_dict(), {**saved, "steps": -1}):
        with pytest.raises(ValueError, match="do not fit"):
            Adam(nn.Linear(4, 3), OptimizerParams()).load_state_dict(wrong)
