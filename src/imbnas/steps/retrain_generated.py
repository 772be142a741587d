"""The heads of `retrain` that learn from generated features too: which are generated, and the training on both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imbnas.data.order import InstanceSampler
from imbnas.longtail.diffusion import Denoiser, NoiseSchedule, Noising, sample
from imbnas.longtail.generators import Calibrated, Generated, Standard, labels_of, mixed_features
from imbnas.longtail.metrics import Ints
from imbnas.longtail.mixing import Mixed
from imbnas.longtail.profiles import generated_counts
from imbnas.params.recipe import OptimizerParams, RecipeParams
from imbnas.params.retrain import SecondStageParams
from imbnas.params.synthesis_options import DiffusionParams, SynthesisParams
from imbnas.progress import Log
from imbnas.seeds import derive, stream
from imbnas.training.adam import Adam
from imbnas.training.definition import Training
from imbnas.training.frozen import FeatureStore, ViewSampler

SEED = "retrain-head"
"""The name of the draws' streams."""


@dataclass(frozen=True)
class Real:
    """Features (views x N, F) of the training rows and their classes, view after view, on the device."""

    features: Tensor
    labels: Tensor
    views: int


Train = Callable[[Training], object]
"""Trains the model of a training in place."""


def generate(
    head: SecondStageParams, real: Real, counts: list[int], seed: int, train: Train, tell: Log | None = None
) -> tuple[Generated, Ints]:
    """Return generated features on the device, and how many there are of each class (C,).

    All is learned from the training rows' features, standardised.

    Args:
        head: the head's parameters.
        real: the rows' features.
        counts: training rows of each class (C,).
        seed: of all draws.
        train: runs the trainings on the way.
        tell: says how many are generated.
    """
    numbers = generated_counts(counts, head.synthesis)
    if tell is not None:
        some = int(np.count_nonzero(numbers))
        tell(f"{head.name}: {numbers.sum():,} features are generated, for {some} of {len(numbers)} classes")
    standard = Standard.of(real.features)
    learned = replace(real, features=standard.apply(real.features))
    found = GENERATORS[head.name](head.synthesis, learned, numbers, seed, train)
    return Generated(standard.undo(found.features.to(real.features)), found.labels), numbers


def _diffused(params: SynthesisParams, real: Real, numbers: Ints, seed: int, train: Train) -> Generated:
    """Train a class-conditional diffusion and draw from it (Han et al. 2024)."""
    width, labels = real.features.shape[1], labels_of(numbers)
    schedule = NoiseSchedule(params.diffusion.timesteps)
    torch.manual_seed(derive(seed, SEED, "denoiser"))
    denoiser = Denoiser(width, len(numbers), params.diffusion.width)
    if len(labels):
        train(diffusion_training(params.diffusion, real, denoiser, schedule, seed))
    denoiser = denoiser.to(real.features.device).eval()
    drawn = sample(denoiser, schedule, labels.to(real.features.device), width, derive(seed, SEED, "sampling"))
    return Generated.of_classes(drawn, labels)


def diffusion_training(
    params: DiffusionParams, real: Real, denoiser: Denoiser, schedule: NoiseSchedule, seed: int
) -> Training:
    """Return the denoiser's training: each row once per epoch, Adam, mean squared error of v."""
    rows = len(real.labels) // real.views
    plain = OptimizerParams(lr=params.lr, momentum=0.0, nesterov=False, weight_decay=0.0)
    name = f"{SEED}-diffusion"
    return Training(
        name=name,
        model=denoiser,
        recipe=RecipeParams(epochs=params.epochs, batch_size=params.batch_size, optimizer=plain),
        store=FeatureStore(real.features, real.labels),
        augment=lambda x, _: x,
        sampler=ViewSampler(InstanceSampler(np.zeros(rows), derive(seed, name, "rows")), rows, real.views),
        objective=lambda epoch: F.mse_loss,
        mix=Noising(schedule),
        seed=seed,
        optimizer=Adam,
    )


def _calibrated(params: SynthesisParams, real: Real, numbers: Ints, seed: int, train: Train) -> Generated:
    """Draw from calibrated Gaussians (Yang et al. 2021)."""
    options, labels = params.gaussian, real.labels.cpu().numpy()
    found = Calibrated(
        real.features.cpu().numpy(),
        labels,
        np.bincount(labels, minlength=len(numbers)) // real.views,
        base=options.base,
        neighbours=options.neighbours,
        spread=options.spread,
    )
    return found.generate(numbers, stream(seed, SEED, "gaussian"))


def _mixed(params: SynthesisParams, real: Real, numbers: Ints, seed: int, train: Train) -> Generated:
    """Mix rows of a class with others (Zhang et al. 2018)."""
    return mixed_features(real.features, real.labels, numbers, params.mixup.alpha, stream(seed, SEED, "mixup"))


GENERATORS: dict[str, Callable[[SynthesisParams, Real, Ints, int, Train], Generated]] = {
    "latent-diffusion": _diffused,
    "gaussian": _calibrated,
    "mixup": _mixed,
}
"""Every head in `imbnas.params.head_options.HEADS` that generates: its features, standardised, by class."""


class Enlarged:
    """The rows' features with generated ones behind them, as store, sampler and decoder of labels of a training.

    An epoch visits each row in its view and each generated feature once, in a random order.

    Args:
        real: the rows' features.
        made: the generated ones.
        classes: number of classes; a larger label stands for a pair of labels, which `decode` looks up.
        seed: of the epochs' orders.
    """

    def __init__(self, real: Real, made: Generated, classes: int, seed: int) -> None:
        self._rows, self._views = len(real.labels) // real.views, real.views
        self._pairs, self._classes = made.labels, classes
        self.paired = bool((made.labels.share < 1.0).any())
        """Whether some of the generated features have two labels."""
        behind = torch.arange(len(made.features)) + classes if self.paired else made.labels.first
        labels = torch.cat([real.labels, behind.to(real.labels)])
        self.store = FeatureStore(torch.cat([real.features, made.features]), labels)
        self._order = InstanceSampler(np.zeros(self._rows + len(made.features)), seed)

    def epoch(self, epoch: int) -> np.ndarray:
        """Return the positions of the 0-based epoch."""
        places = self._order.epoch(epoch)
        last = (self._views - 1) * self._rows
        return np.where(places < self._rows, places + (epoch % self._views) * self._rows, places + last)

    def decode(self, features: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Mixed]:
        """Return the features as they are, and the pair of labels of each; nothing is drawn."""
        real = labels < self._classes
        place = torch.where(real, 0, labels - self._classes)
        first, second, share = (part.to(labels.device)[place] for part in self._pairs)
        pair = Mixed(torch.where(real, labels, first), torch.where(real, labels, second), torch.where(real, 1.0, share))
        return features, pair
