"""Diffusion on features: it gives the classes' means and covariances back, and its schedule is a schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imbnas.longtail.diffusion import Denoiser, NoiseSchedule, Noising, sample
from imbnas.longtail.generators import Standard, labels_of
from imbnas.params.recipe import OptimizerParams, ScheduleParams
from imbnas.training.adam import Adam
from imbnas.training.optimizer import rate_factor

ROWS, CLASSES, WIDTH = 2000, 3, 4


def mixture() -> tuple[torch.Tensor, torch.Tensor]:
    """Return features of three Gaussians that differ in mean and covariance, and their classes."""
    rng = np.random.default_rng(1)
    means = [[0.0, 0.0, 0.0, 0.0], [20.0, 1.0, -1.0, 0.5], [-10.0, 2.0, 1.0, 0.0]]
    roots = 0.6 * np.eye(WIDTH) + 0.3 * rng.standard_normal((CLASSES, WIDTH, WIDTH))
    # Scales that differ and are far from the interval [-1, 1], to which nothing is to be clamped.
    scale = np.array([10.0, 1.0, 1.0, 0.1])
    rows = [
        (mean + rng.standard_normal((ROWS, WIDTH)) @ root.T * scale) for mean, root in zip(means, roots, strict=True)
    ]
    return torch.from_numpy(np.concatenate(rows)).float(), labels_of([ROWS] * CLASSES)


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """Return features of the mixture and as many that were generated after 500 steps."""
    features, labels = mixture()
    standard, schedule = Standard.of(features), NoiseSchedule(100)
    torch.manual_seed(0)
    denoiser, noising, steps = Denoiser(WIDTH, CLASSES, 8), Noising(schedule), 500
    optimizer = Adam(denoiser, OptimizerParams(lr=0.01))
    inputs, generator = standard.apply(features), torch.Generator().manual_seed(0)
    for step in range(steps):
        rows = torch.randint(len(inputs), (512,), generator=generator)
        coded, target = noising(inputs[rows], labels[rows], generator)
        optimizer.zero_grad()
        F.mse_loss(denoiser(coded), target).backward()
        optimizer.set_rate(0.01 * rate_factor(ScheduleParams(), step, steps))
        optimizer.step()
    return features, standard.undo(sample(denoiser, schedule, labels, WIDTH, 0))


def test_generated_classes_have_the_means_and_covariances_of_the_real_ones(
    drawn: tuple[torch.Tensor, torch.Tensor],
) -> None:
    labels = labels_of([ROWS] * CLASSES)
    for label in range(CLASSES):
        real, made = (features[labels == label].double() for features in drawn)
        deviation = real.std(dim=0)
        assert ((made.mean(dim=0) - real.mean(dim=0)).abs() / deviation).max() < 0.1
        # Of features in units of their own deviation: a covariance in other units would hide the smaller ones.
        true, found = (torch.cov((features / deviation).T) for features in (real, made))
        assert (found - true).norm() / true.norm() < 0.15
        assert (found.diag() / true.diag() - 1.0).abs().max() < 0.15


def test_the_noise_rises_from_none_to_nearly_all() -> None:
    for timesteps in (2, 100, 1000):
        schedule = NoiseSchedule(timesteps)
        np.testing.assert_allclose(schedule.signal**2 + schedule.noise**2, 1.0)
        assert schedule.signal[0] == 1.0
        assert (np.diff(schedule.signal) < 0.0).all()
        assert schedule.signal[-1] < 0.05


def test_a_perfect_denoiser_goes_back_to_a_single_point() -> None:
    """With v of a known point the reverse process must end there: the last step adds no noise."""
    schedule, point = NoiseSchedule(20), torch.tensor([3.0, -40.0])

    class Perfect(torch.nn.Module):
        def forward(self, coded: torch.Tensor) -> torch.Tensor:
            t = round(float(coded[0, -2]) * 20)
            signal, noise = float(schedule.signal[t]), float(schedule.noise[t])
            return signal * (coded[:, :2] - signal * point) / noise - noise * point

    found = sample(Perfect(), schedule, torch.zeros(5, dtype=torch.int64), 2, 0)
    torch.testing.assert_close(found, point.expand(5, 2), rtol=1e-4, atol=1e-4)


def test_noising_mixes_feature_and_noise_and_asks_for_v() -> None:
    schedule = NoiseSchedule(10)
    features, labels = torch.randn(6, 3), torch.arange(6)
    coded, v = Noising(schedule)(features, labels, torch.Generator().manual_seed(3))
    times = (coded[:, 3] * 10).round().long().numpy()
    assert set(times) <= set(range(1, 11))
    assert coded[:, 4].tolist() == labels.tolist()
    signal, noise = (torch.from_numpy(table[times]).float()[:, None] for table in (schedule.signal, schedule.noise))
    # x = signal x_t - noise v, whatever the noise was.
    torch.testing.assert_close(signal * coded[:, :3] - noise * v, features)


def test_draws_are_a_function_of_the_seed() -> None:
    torch.manual_seed(0)
    denoiser, labels = Denoiser(3, 2), torch.tensor([0, 1, 1])
    one, same, other = (sample(denoiser, NoiseSchedule(5), labels, 3, seed) for seed in (4, 4, 5))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert sample(denoiser, NoiseSchedule(5), labels[:0], 3, 0).shape == (0, 3)
