"""The strategy `head` of the step `adapt`: a new head on the frozen supernet."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.data.order import Sampler
from imbnas.longtail.heads import LINEAR, NearestClassMean, make_head
from imbnas.longtail.losses import capturable
from imbnas.params.adapt import AdaptView
from imbnas.params.longtail import SamplerParams
from imbnas.params.loss_options import LossName
from imbnas.seeds import derive, stream
from imbnas.spaces.networks import Architecture, Supernet
from imbnas.spaces.permuted import PermutedPasses
from imbnas.steps.adapt_cache import cached_features
from imbnas.steps.head_stages import INSTANCE, HeadStage, own_head
from imbnas.steps.objective import make_objective, make_sampler
from imbnas.steps.rows import Rows, read_validation
from imbnas.steps.workbench import TrainingStep
from imbnas.training.batchnorm import batch_statistics
from imbnas.training.cache import CachedSampler, CachedStore
from imbnas.training.definition import Objective, Training
from imbnas.training.frozen import FrozenBackbone, compute_features
from imbnas.training.turns import Trainings

FEATURE_BATCH = 256
"""Rows whose statistics normalise a batch of features, as in the search's calibration."""


class AdaptHead(HeadStage):
    """The frozen supernet on the workbench.

    Features are normalised by each batch's own statistics, because the running ones belong to no path.
    Nothing of the backbone changes.
    """

    def __init__(self, step: TrainingStep, view: AdaptView, supernet: Supernet, held_out: Rows) -> None:
        adapt = view.adapt
        super().__init__(
            supernet,
            adapt.head,
            adapt.loss,
            adapt.sampler,
            scale=adapt.classifier.scale,
            counts=step.rows.counts,
            log=step.context.log,
        )
        self.step, self.adapt, self.supernet, self.held_out = step, adapt, supernet, held_out
        self.store = step.store()
        self.cache: CachedStore | None = None
        if adapt.feature_cache.paths and adapt.head.epochs:
            self.cache = cached_features(step, view, supernet, self.store)

    def renew(self, described: dict[str, Any]) -> None:
        """Give the supernet a new head; it has a new linear one already."""
        if described != LINEAR:
            self.supernet.head = make_head(described, self.step.space.num_features, len(self.counts))

    def plain(self) -> Trainings[nn.Linear]:
        """Return the new linear head, trained with plain cross-entropy on the rows as they are."""
        yield from self.train("ce", INSTANCE)
        return own_head(self.supernet.head)

    def train(self, loss: LossName, sampler: SamplerParams, part: str = "") -> Trainings[None]:
        """Train the supernet's present head."""
        name = f"adapt-{part}" if self.states else "adapt"
        step, recipe = self.step, self.adapt.head
        rows = make_sampler(sampler, step.rows.labels, derive(step.seed, name, "rows"), recipe.epochs)
        objective = make_objective(
            self.adapt.model_copy(update={"loss": loss}), recipe, step.rows.counts, step.runtime.device
        )
        if self.cache is None:
            training = self._on_images(name, rows, objective, capturable(loss))
        else:
            training = self._on_features(name, self.cache, rows, objective, capturable(loss))
        state = step.state(name)
        yield step.trainer(training, state).turns()
        self.states.append(state)

    def _on_images(self, name: str, sampler: Sampler, objective: Objective, capturable: bool) -> Training:
        step, recipe, together = self.step, self.adapt.head, self.adapt.passes == "together"
        return Training(
            name=name,
            model=FrozenBackbone(self.supernet, "batch"),
            recipe=recipe,
            store=self.store,
            augment=step.augment(recipe.augment),
            sampler=sampler,
            objective=objective,
            mix=step.mix(recipe),
            seed=step.seed,
            passes=step.passes(self.adapt.sampling, name),
            together=PermutedPasses(step.space, frozen=True) if together else None,
            capturable=together and capturable,
        )

    def _on_features(
        self, name: str, cache: CachedStore, sampler: Sampler, objective: Objective, capturable: bool
    ) -> Training:
        recipe = self.adapt.head
        self.supernet.requires_grad_(False)
        self.supernet.head.requires_grad_(True)
        return Training(
            name=name,
            model=self.supernet.head,
            recipe=recipe,
            store=cache,
            augment=lambda features, _: features,
            sampler=CachedSampler(sampler, len(self.step.rows), cache.turns, recipe.batch_size),
            objective=objective,
            seed=self.step.seed,
            paths_per_batch=cache.paths_per_batch,
            capturable=capturable,
        )

    def judges(self) -> tuple[Tensor, Tensor] | None:
        """Return features and labels of the validation rows, where they choose tau."""
        if not self.head.judged:
            return None
        return self.features(read_validation(self.step.context, self.held_out, "adapt.head.tau auto"))

    def features(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return features (paths x N, F) and labels of the rows, without augmentation, path after path."""
        found = [self._of_path(rows, path) for path in self._paths()]
        return torch.cat([features for features, _ in found]), torch.cat([labels for _, labels in found])

    def class_means(self) -> NearestClassMean:
        """Return the nearest-class-mean head whose mean and centroids are the averages of those of the random paths."""
        total: NearestClassMean | None = None
        paths = self._paths()
        for path in paths:
            one = NearestClassMean.fit(*self._of_path(self.step.rows, path), len(self.counts))
            if total is None:
                total = one
            else:
                total.mean += one.mean
                total.centroids += one.centroids
        assert total is not None
        total.mean /= len(paths)
        total.centroids /= len(paths)
        return total

    def _paths(self) -> list[Architecture]:
        rng = stream(self.step.seed, "adapt", "features")
        return [self.step.space.sample(rng) for _ in range(self.adapt.head.paths)]

    def _of_path(self, rows: Rows, path: Architecture) -> tuple[Tensor, Tensor]:
        """Return one path's features and labels, in a random order: statistics are those of random batches."""
        step = self.step
        step.runtime.place(self.supernet)
        # Rows lie class by class, and the statistics of a batch of few classes would be no others' than theirs.
        mixed = rows.at(stream(step.seed, "adapt", "feature rows").permutation(len(rows)))
        store = step.store(mixed)
        with batch_statistics(self.supernet):
            # Batches of equal size: a last one of a single row has no variance.
            batches = store.batches(np.array_split(np.arange(len(rows)), math.ceil(len(rows) / FEATURE_BATCH)))
            return compute_features(self.supernet, batches, step.augment(None, rows), step.runtime, None, path)
