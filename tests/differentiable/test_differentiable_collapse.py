"""Perturbations, curvature and early stopping against what can be computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imbnas.differentiable.collapse import (
    adversarial_perturbation,
    dominant_eigenvalue,
    epoch_before_rise,
    perturbation_radius,
    random_perturbation,
    should_stop,
)
from imbnas.spaces.relaxed import Relaxed


def relaxed(rows: int = 14) -> Relaxed:
    generator = torch.Generator().manual_seed(0)
    return Relaxed({kind: torch.randn(rows, 8, generator=generator).softmax(dim=1) for kind in ("normal", "reduce")})


def test_the_radius_rises_over_the_search() -> None:
    assert [perturbation_radius(epoch, 50, 0.03, 0.3) for epoch in (0, 25, 50)] == pytest.approx([0.03, 0.165, 0.3])


def test_random_noise_stays_a_distribution_near_the_weights() -> None:
    before = relaxed()
    generator = torch.Generator().manual_seed(1)
    after = random_perturbation(before, 0.05, generator)
    for kind, weights in after.operations.items():
        assert weights.min() >= 0.0
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(14))
        assert 0.0 < (weights - before.operations[kind]).abs().max() < 0.2
    again = random_perturbation(before, 0.05, torch.Generator().manual_seed(1))
    assert torch.equal(again.operations["reduce"], after.operations["reduce"])


def test_the_adversary_climbs_or_stays() -> None:
    target = torch.zeros(14, 8)
    target[:, 3] = 1.0
    before = relaxed()

    def loss(weights: Relaxed) -> torch.Tensor:
        return (weights.operations["normal"] * target).sum()

    generator = torch.Generator().manual_seed(0)
    after = adversarial_perturbation(before, 0.1, loss, generator)
    assert loss(after) > loss(before)
    assert not after.operations["normal"].requires_grad

    def level(weights: Relaxed) -> torch.Tensor:
        return -weights.operations["normal"].square().sum() * 0.0

    stays = adversarial_perturbation(before, 0.1, level, generator)
    assert torch.equal(stays.operations["normal"], before.operations["normal"])


def test_the_adversary_starts_at_a_random_point_within_the_radius() -> None:
    before, seen = relaxed(), []

    def loss(weights: Relaxed) -> torch.Tensor:
        seen.append(weights.operations["normal"].detach().clone())
        return weights.operations["normal"].square().sum()

    for seed in (0, 1):
        adversarial_perturbation(before, 0.1, loss, torch.Generator().manual_seed(seed))
    # A call looks at the loss nine times: where it is, after the random start and seven times on its way.
    assert len(seen) == 2 * 9
    assert torch.equal(seen[0], before.operations["normal"])
    assert not torch.equal(seen[1], seen[0])
    assert not torch.equal(seen[1], seen[10])
    assert (seen[1] - seen[0]).abs().max() < 0.2


def test_power_iteration_finds_the_largest_eigenvalue() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    for values in ([5.0, 2.0, 1.0, 0.5, 0.1, 0.0], [-7.0, 2.0, 1.0, 0.5, 0.1, 0.0]):
        matrix = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T
        parts = [
            nn.Parameter(torch.randn(2, 2, dtype=torch.float64)),
            nn.Parameter(torch.randn(2, dtype=torch.float64)),
        ]
        flat = torch.cat([part.flatten() for part in parts])
        loss = 0.5 * flat @ matrix @ flat + flat.sum()
        generator = torch.Generator().manual_seed(0)
        assert dominant_eigenvalue(loss, parts, generator, 200, 1e-9) == pytest.approx(values[0], rel=1e-6)


def test_the_search_stops_when_the_smoothed_eigenvalue_jumps() -> None:
    flat = [1.0] * 12
    assert not should_stop(flat, 1.3, 5, 4, 10)
    assert not should_stop([1.0] * 5 + [9.0] * 4, 1.3, 5, 4, 10), "too early"
    rising = [*flat, 2.0, 2.0, 2.0, 2.0]
    stops = [should_stop(rising[:count], 1.3, 5, 4, 10) for count in range(1, len(rising) + 1)]
    # Means of five: 1.2 after one jump, 1.4 after two.
    assert stops.index(True) == 13
    assert not should_stop(rising, 1.9, 5, 4, 10)


@pytest.mark.parametrize(
    ("detected", "window", "back", "patience", "taken"),
    [(30, 5, 4, 10, 24), (14, 5, 4, 10, 10), (17, 5, 4, 10, 11), (10, 5, 4, 10, 10), (9, 1, 2, 1, 7)],
)
def test_the_architecture_before_the_rise_is_taken(
    detected: int, window: int, back: int, patience: int, taken: int
) -> None:
    assert epoch_before_rise(detected, window, back, patience) == taken
