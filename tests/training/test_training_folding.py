"""BatchNorm folded into convolutions: the same outputs but for rounding, and only where that is so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imbnas.spaces.blocks import shuffle_unit
from imbnas.training.folding import folded


def settled(model: nn.Module) -> nn.Module:
    for module in model.double().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model.eval()


def test_outputs_are_the_same_in_float64_and_the_model_comes_back() -> None:
    model = settled(nn.Sequential(shuffle_unit(4, 8, 2, 5), shuffle_unit(8, 8, 1, 3, xception=True)))
    x, children = torch.randn(3, 4, 8, 8, dtype=torch.float64), list(model.modules())
    with torch.no_grad():
        expected = model(x)
        with folded(model):
            assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
            torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert list(model.modules()) == children
    with pytest.raises(ZeroDivisionError), folded(model):
        raise ZeroDivisionError
    assert list(model.modules()) == children


def test_only_settled_layers_right_behind_a_plain_convolution_are_folded() -> None:
    class Rounding(nn.Conv2d):
        """Not what its weights say."""

    model = settled(
        nn.Sequential(
            nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2), Rounding(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)
        )
    )
    with folded(model):
        assert [type(module) for module in model].count(nn.BatchNorm2d) == 2
    training = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).train()
    with folded(training):
        assert type(training[1]) is nn.BatchNorm2d
