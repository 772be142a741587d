"""The published values of HLRS's schedules, and the displacement that they cause."""

from __future__ import annotations

import math

import pytest
import torch

from imbnas.differentiable.search_schedules import (
    mixing_factor,
    rate_share,
    set_architecture_rate,
    skip_weight,
    temperature,
    weight_rate,
)

EPOCHS, RATE = 50, 3e-4
TABLE = {1: 1.0, 10: 0.9676, 20: 0.8556, 25: 0.7696, 30: 0.6636, 40: 0.3916, 50: 0.0396}
"""1 - ((T - 1) / 50)^2 at T."""


def test_the_cumulative_schedule_has_the_tabled_values() -> None:
    for epoch, value in TABLE.items():
        assert abs(rate_share("cumulative", epoch - 1, EPOCHS) - value) < 1e-12
        assert abs(mixing_factor("parabolic", epoch - 1, EPOCHS, 0.0) - value) < 1e-12
    rates = {1: 3.0e-4, 10: 2.903e-4, 20: 2.567e-4, 25: 2.309e-4, 30: 1.991e-4, 40: 1.175e-4, 50: 1.188e-5}
    for epoch, value in rates.items():
        assert RATE * rate_share("cumulative", epoch - 1, EPOCHS) == pytest.approx(value, rel=5e-4)


def test_the_other_schedules() -> None:
    for epoch in range(EPOCHS):
        share = epoch / EPOCHS
        assert rate_share("constant", epoch, EPOCHS) == 1.0
        assert abs(rate_share("cosine", epoch, EPOCHS) - 0.5 * (1 + math.cos(math.pi * share))) < 1e-12
        assert abs(rate_share("increasing", epoch, EPOCHS) + rate_share("cumulative", epoch, EPOCHS) - 1.0) < 1e-12
        # 0.71 of the search: T > 0.7071 T_max + 1.
        assert rate_share("freeze", epoch, EPOCHS) == float(epoch + 1 <= math.sqrt(0.5) * EPOCHS + 1)
        assert mixing_factor("symmetric", epoch, EPOCHS, 0.9) == 0.5
        assert mixing_factor("fixed", epoch, EPOCHS, 0.9) == 0.9
        assert mixing_factor("linear", epoch, EPOCHS, 0.9) == pytest.approx(1 - share)
        assert mixing_factor("half", epoch, EPOCHS, 0.9) == pytest.approx(1 - share**2 / 2)
        assert mixing_factor("cosine", epoch, EPOCHS, 0.9) == pytest.approx(math.cos(share * math.pi / 2))
    assert [weight_rate(0.025, 0.001, epoch, 50) for epoch in (0, 25, 50)] == pytest.approx([0.025, 0.013, 0.001])
    assert [skip_weight("linear", epoch, 4) for epoch in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [skip_weight(name, 2, 4) for name in ("none", "cosine")] == pytest.approx([0.0, 0.5])


def test_replayed_gradients_move_in_proportion_to_the_schedule() -> None:
    """Adam's direction does not depend on its rate: without decay each step is the tabled share of the constant one."""
    torch.manual_seed(0)
    recorded = [[torch.randn(14, 8, dtype=torch.float64) for _ in range(3)] for _ in range(EPOCHS)]

    def displacements(name: str) -> list[torch.Tensor]:
        alpha = torch.nn.Parameter(torch.zeros(14, 8, dtype=torch.float64))
        adam = torch.optim.Adam([alpha], lr=RATE, betas=(0.5, 0.999), weight_decay=0.0)
        moved = []
        for epoch, gradients in enumerate(recorded):
            set_architecture_rate(adam, RATE, 0.0, rate_share(name, epoch, EPOCHS))  # type: ignore[arg-type]
            assert abs(adam.param_groups[0]["lr"] - RATE * rate_share(name, epoch, EPOCHS)) < 1e-12  # type: ignore[arg-type]
            before = alpha.detach().clone()
            alpha.grad = gradients[0]
            adam.step()
            moved.append(alpha.detach() - before)
        return moved

    constant, cumulative = displacements("constant"), displacements("cumulative")
    for epoch in range(EPOCHS):
        expected = rate_share("cumulative", epoch, EPOCHS) * constant[epoch]
        assert float((cumulative[epoch] - expected).abs().max()) < 1e-12
        assert float(constant[epoch].abs().mean()) > 1e-5


def test_weight_decay_is_scaled_with_the_rate() -> None:
    adam = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=1.0, weight_decay=1.0)
    set_architecture_rate(adam, RATE, 1e-3, 0.25)
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["weight_decay"]) == (RATE / 4, 2.5e-4)


def test_the_temperature_has_the_tabled_values() -> None:
    tabled = {0: 1.5, 4: 1.5, 5: 1.125, 10: 0.844, 20: 0.475, 30: 0.267, 40: 0.150, 45: 0.113, 49: 0.113}
    for epoch, value in tabled.items():
        assert temperature(1.5, 0.75, 5, epoch) == pytest.approx(value, abs=5e-4)
    # Sparsemax divides by it in float32, in which 1e-60 is 0.
    assert temperature(1.0, 0.001, 1, 20) == 1e-6
