"""The strategy `head` of the step `adapt`: a new head on the frozen supernet."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.data.samplers import Sampler
from imbnas.longtail.heads import LINEAR, NearestClassMean, make_head
from imbnas.longtail.losses import repeats
from imbnas.params.adapt import AdaptView
from imbnas.params.longtail import SamplerParams
from imbnas.params.losses import LossName
from imbnas.run.context import Context
from imbnas.seeds import derive, stream
from imbnas.spaces.chain import Architecture, Supernet
from imbnas.spaces.space import SearchSpace
from imbnas.steps.adapt_cache import cached_features
from imbnas.steps.heads import HEAD_STAGES, INSTANCE, HeadStage, own_head
from imbnas.steps.mixing import make_mix
from imbnas.steps.objective import make_objective, make_sampler
from imbnas.steps.paths import training_passes
from imbnas.steps.rows import Rows, make_augment, make_store, read_validation
from imbnas.training.batchnorm import batch_statistics
from imbnas.training.cache import CachedSampler, CachedStore
from imbnas.training.frozen import FrozenBackbone, compute_features
from imbnas.training.loop import Job, Objective, train
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

FEATURE_BATCH = 256
"""Rows whose statistics normalise a batch of features, as in the search's calibration."""


def new_head(
    view: AdaptView,
    context: Context,
    runtime: Runtime,
    space: SearchSpace,
    supernet: Supernet,
    tail: Rows,
    held_out: Rows,
) -> tuple[dict[str, Any], list[ResumeState]]:
    """Give the supernet its new head in place; return its description and the trainings' states.

    Features are normalised by each batch's own statistics, because the running ones belong to no path.
    Nothing of the backbone changes.
    """
    stage = _Stage(view, context, runtime, space, supernet, tail, held_out)
    return HEAD_STAGES[view.adapt.head.name](stage), stage.states


class _Stage(HeadStage):
    """The frozen supernet and the long-tailed rows."""

    def __init__(
        self,
        view: AdaptView,
        context: Context,
        runtime: Runtime,
        space: SearchSpace,
        supernet: Supernet,
        tail: Rows,
        held_out: Rows,
    ) -> None:
        adapt = view.adapt
        super().__init__(
            supernet,
            adapt.head,
            adapt.loss,
            adapt.sampler,
            scale=adapt.classifier.scale,
            counts=tail.counts,
            log=context.log,
        )
        self.view, self.context, self.runtime = view, context, runtime
        self.space, self.supernet, self.tail, self.held_out = space, supernet, tail, held_out
        self.store = make_store(tail, runtime, context)
        self.cache: CachedStore | None = None
        if adapt.feature_cache.paths and adapt.head.epochs:
            self.cache = cached_features(view, context, runtime, space, supernet, tail, self.store)

    def renew(self, described: dict[str, Any]) -> None:
        """Give the supernet a new head; it has a new linear one already."""
        if described != LINEAR:
            self.supernet.head = make_head(described, self.space.num_features, len(self.counts))

    def plain(self) -> nn.Linear:
        """Return the new linear head, trained with plain cross-entropy on the rows as they are."""
        self.train("ce", INSTANCE)
        return own_head(self.supernet.head)

    def train(self, loss: LossName, sampler: SamplerParams, part: str = "") -> None:
        """Train the supernet's present head."""
        name = f"adapt-{part}" if self.states else "adapt"
        adapt, recipe = self.view.adapt, self.view.adapt.head
        rows = make_sampler(sampler, self.tail.labels, derive(self.view.seed, name, "rows"), recipe.epochs)
        objective = make_objective(
            loss,
            adapt.weighting,
            adapt.losses,
            scale=adapt.classifier.scale,
            label_smoothing=recipe.label_smoothing,
            epochs=recipe.epochs,
            counts=self.tail.counts,
            device=self.runtime.device,
        )
        if self.cache is None:
            job = self._on_images(name, rows, objective)
        else:
            job = self._on_features(name, self.cache, rows, objective, repeats(loss))
        context = self.context
        state = ResumeState(context.state_path, name, context.state_interval, context.note_cost, self.runtime.ranks)
        with state.held():
            if recipe.epochs:
                train(job, self.runtime, state, context.log)
                state.pause()
        self.states.append(state)

    def _on_images(self, name: str, sampler: Sampler, objective: Objective) -> Job:
        recipe, info = self.view.adapt.head, self.tail.split.info
        sampling, classes = self.view.adapt.sampling, len(info.classes)
        return Job(
            name=name,
            model=FrozenBackbone(self.supernet, "batch"),
            recipe=recipe,
            store=self.store,
            augment=make_augment(self.tail.split, recipe.augment),
            sampler=sampler,
            objective=objective,
            mix=make_mix(recipe, self.tail.counts),
            seed=self.view.seed,
            passes=training_passes(self.space, sampling, self.view.seed, name, info.shape, classes),
        )

    def _on_features(self, name: str, cache: CachedStore, sampler: Sampler, objective: Objective, repeats: bool) -> Job:
        recipe, rows = self.view.adapt.head, len(self.tail)
        self.supernet.requires_grad_(False)
        self.supernet.head.requires_grad_(True)
        return Job(
            name=name,
            model=self.supernet.head,
            recipe=recipe,
            store=cache,
            augment=lambda features, _: features,
            sampler=CachedSampler(sampler, rows, cache.turns, recipe.batch_size),
            objective=objective,
            seed=self.view.seed,
            together=cache.paths_a_step,
            repeats=repeats,
        )

    def judges(self) -> tuple[Tensor, Tensor] | None:
        """Return features and labels of the validation rows, where they choose tau."""
        if not self.head.judged:
            return None
        return self.features(read_validation(self.context, self.held_out, "adapt.head.tau auto"))

    def features(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return features (paths x N, F) and labels of the rows, without augmentation, path after path."""
        found = [self._of_path(rows, path) for path in self._paths()]
        return torch.cat([features for features, _ in found]), torch.cat([labels for _, labels in found])

    def class_means(self) -> NearestClassMean:
        """Return the nearest-class-mean head whose mean and centroids are the averages of those of the random paths."""
        total: NearestClassMean | None = None
        paths = self._paths()
        for path in paths:
            one = NearestClassMean.fit(*self._of_path(self.tail, path), len(self.tail.counts))
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
        rng = stream(self.view.seed, "adapt", "features")
        return [self.space.sample(rng) for _ in range(self.view.adapt.head.paths)]

    def _of_path(self, rows: Rows, path: Architecture) -> tuple[Tensor, Tensor]:
        """Return one path's features and labels, in a random order: statistics are those of random batches."""
        self.runtime.place(self.supernet)
        # Rows lie class by class, and the statistics of a batch of few classes would be no others' than theirs.
        mixed = rows.at(stream(self.view.seed, "adapt", "feature rows").permutation(len(rows)))
        store = make_store(mixed, self.runtime, self.context)
        with batch_statistics(self.supernet):
            # Batches of equal size: a last one of a single row has no variance.
            batches = store.batches(np.array_split(np.arange(len(rows)), math.ceil(len(rows) / FEATURE_BATCH)))
            augment = make_augment(rows.split, None)
            return compute_features(self.supernet, batches, augment, self.runtime, None, path)
