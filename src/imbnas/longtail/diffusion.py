"""Class-conditional diffusion on features (Ho et al. 2020; on a long tail LDMLR, Han et al. 2024)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIMES = 32
"""Sines and cosines that tell the denoiser the time."""
FASTEST = 1000.0
"""Radians by which the fastest of them turns over all timesteps."""
AT_ONCE = 8192
"""Features that are denoised in one pass."""


class NoiseSchedule:
    """The cosine schedule (Nichol and Dhariwal 2021): a feature x becomes signal_t x + noise_t epsilon.

    signal_t^2 = f(t) / f(0) with f(t) = cos^2((t / T + s) / (1 + s) pi / 2) and s = 0.008, and signal^2 + noise^2 = 1;
    no step takes more than 99.9 % of what is left of the signal's square.

    Args:
        timesteps: the number T of steps.
    """

    def __init__(self, timesteps: int) -> None:
        self.timesteps = timesteps
        offset = 0.008
        times = np.arange(timesteps + 1) / timesteps
        curve = np.cos((times + offset) / (1.0 + offset) * np.pi / 2.0) ** 2
        kept = np.maximum(curve[1:] / curve[:-1], 1e-3)
        power = np.concatenate([[1.0], np.cumprod(kept)])
        self.signal, self.noise = np.sqrt(power), np.sqrt(1.0 - power)
        """At t = 0 (no noise), 1, ... T."""
        self._kept = np.concatenate([[1.0], kept])

    def back(self, t: int) -> tuple[float, float, float]:
        """Return factors of the clean and the noisy feature, and the deviation, of the step from t to t - 1.

        They are mean and deviation of x_{t-1} where x_t and the clean x are known (Ho et al. 2020, equation 7).
        """
        kept, before, now = self._kept[t], self.noise[t - 1] ** 2, self.noise[t] ** 2
        clean = self.signal[t - 1] * (1.0 - kept) / now
        noisy = math.sqrt(kept) * before / now
        return float(clean), float(noisy), float(math.sqrt((1.0 - kept) * before / now))


class Denoiser(nn.Module):
    """An MLP F -> width F -> width F -> F that predicts v = signal epsilon - noise x (Salimans and Ho 2022).

    Time, as sines and cosines through a linear layer, plus an embedding of the class scale and shift both hidden layers
    (FiLM, Perez et al. 2018).
    Its input is what `Noising` makes: (N, F + 2), a noisy feature, its share of the timesteps and its class.

    Args:
        features: width F of the features.
        classes: number of classes.
        width: hidden units per feature.
    """

    def __init__(self, features: int, classes: int, width: int = 4) -> None:
        super().__init__()
        hidden = width * features
        self.first, self.second, self.last = (
            nn.Linear(features, hidden),
            nn.Linear(hidden, hidden),
            nn.Linear(hidden, features),
        )
        self.times = nn.Linear(2 * TIMES, 4 * hidden)
        self.classes = nn.Embedding(classes, 4 * hidden)
        nn.init.zeros_(self.classes.weight)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, coded: Tensor) -> Tensor:
        """Return v (N, F)."""
        noisy, time, label = coded[:, :-2], coded[:, -2:-1], coded[:, -1].long()
        angles = time * torch.logspace(0.0, math.log10(FASTEST), TIMES, device=coded.device, dtype=coded.dtype)
        known = self.times(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.classes(label)
        scale, shift, second_scale, second_shift = known.chunk(4, dim=1)
        hidden = F.silu(self.first(noisy) * (1.0 + scale) + shift)
        hidden = hidden + F.silu(self.second(hidden) * (1.0 + second_scale) + second_shift)
        predicted: Tensor = self.last(hidden)
        return predicted


class Noising:
    """Turns a batch of features and labels into a denoiser's inputs and targets, at a random time for each row.

    Args:
        schedule: the noise at each time.
    """

    def __init__(self, schedule: NoiseSchedule) -> None:
        self._timesteps = schedule.timesteps
        self._signal = torch.from_numpy(schedule.signal).float()
        self._noise = torch.from_numpy(schedule.noise).float()

    def __call__(self, features: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return inputs (N, F + 2) and the v that is to be predicted (N, F); the CPU generator moves on."""
        time = torch.randint(1, self._timesteps + 1, (len(features), 1), generator=generator)
        noise = torch.randn(features.shape, generator=generator).to(features)
        signal, strength = (table[time].to(features) for table in (self._signal, self._noise))
        noisy = signal * features + strength * noise
        coded = [noisy, (time / self._timesteps).to(features), labels.to(features)[:, None]]
        return torch.cat(coded, dim=1), signal * noise - strength * features


@torch.no_grad()
def sample(denoiser: nn.Module, schedule: NoiseSchedule, labels: Tensor, features: int, seed: int) -> Tensor:
    """Return generated features (M, F) of the classes `labels` (M,), on their device, by ancestral sampling.

    Nothing is clamped. The draws are a function of the seed and of the number of labels.
    """
    parts = []
    for number, part in enumerate(labels.split(AT_ONCE)):
        generator = torch.Generator().manual_seed((seed + number) % 2**63)
        label = part.float()[:, None]
        x = torch.randn((len(part), features), generator=generator).to(part.device)
        for t in range(schedule.timesteps, 0, -1):
            time = torch.full_like(label, t / schedule.timesteps)
            v = denoiser(torch.cat([x, time, label], dim=1)).float()
            clean, noisy, deviation = schedule.back(t)
            x = clean * (float(schedule.signal[t]) * x - float(schedule.noise[t]) * v) + noisy * x
            if t > 1:
                x = x + deviation * torch.randn(x.shape, generator=generator).to(x)
        parts.append(x)
    return torch.cat(parts) if parts else torch.zeros((0, features), device=labels.device)
