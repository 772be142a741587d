"""Features of some paths of the frozen supernet, computed once and kept, on which `adapt` trains its head."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imbnas.data.images import ImageStore
from imbnas.disk import amount
from imbnas.errors import UserError
from imbnas.files import taken
from imbnas.params.adapt import AdaptParams, AdaptView, FeatureCacheParams, HeadParams
from imbnas.params.recipe import AugmentParams
from imbnas.seeds import derive, stream
from imbnas.spaces.networks import Supernet
from imbnas.steps.workbench import TrainingStep
from imbnas.training.cache import CachedStore, Entry, FeatureFile, path_features

Arguments = tuple[Any, ...]
"""The arguments of a supernet's forward pass: an architecture, or nothing for a mixture."""


def cached_features(step: TrainingStep, view: AdaptView, supernet: Supernet, store: ImageStore) -> CachedStore:
    """Return the features of `adapt.feature_cache.paths` paths on the long-tailed rows; no bit of the supernet changes.

    Features are normalised by the statistics of random batches, as large as those of a training without a cache: one
    exact set of statistics for each path makes a worse head (decision 13). What an earlier run has left is taken, whole
    paths at a time. Raises UserError, before anything is computed, for paths that do not fill a step's group, or
    features beyond `limit`.
    """
    params, context, rows = view.adapt.feature_cache, step.context, step.rows
    paths, groups = _drawn(step, view.adapt)
    shape = (len(paths), max(1, params.views), len(rows), step.space.num_features)
    file = FeatureFile(context.kept_path(_only_features(view).model_dump_json(by_alias=True)), shape)
    text = f"{len(paths)} paths x {shape[1]} views x {len(rows)} rows x {shape[3]} features"
    if file.nbytes > params.limit * 2**30:
        raise UserError(
            f"adapt.feature_cache.limit: {text} take {amount(file.nbytes)}, expected at most {params.limit:g} GiB: "
            "fewer paths or views, or a larger limit"
        )
    context.log(f"feature cache: {text} take {amount(file.nbytes)} of disk")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    with file.path.with_suffix(".lock").open("a") as lock:
        # Of two runs that differ in the loss alone one computes, and the other takes what it has made.
        if not taken(lock):
            context.log("feature cache: another process makes these very features, waiting for it")
            taken(lock, wait=math.inf)
        _fill(file, step, view.adapt, supernet, store, paths)
    return CachedStore(file.features(), torch.from_numpy(rows.labels), groups, step.runtime.device)


def _drawn(step: TrainingStep, adapt: AdaptParams) -> tuple[list[Arguments], list[list[int]]]:
    """Return the different paths, and which of them each group has: the paths of the first optimiser steps."""
    wanted, passes = adapt.feature_cache.paths, step.passes(adapt.sampling, "adapt")
    width = len(passes(0))
    if wanted % width:
        raise UserError(
            f"adapt.feature_cache.paths: found {wanted}, expected a multiple of {width}, the paths of one step with "
            f"adapt.sampling {adapt.sampling}"
        )
    numbers: dict[Arguments, int] = {}
    groups = [[numbers.setdefault(tuple(path), len(numbers)) for path in passes(k)] for k in range(wanted // width)]
    return list(numbers), groups


def _only_features(view: AdaptView) -> AdaptView:
    """Return the view with all that does not change the features at its default: heads and losses share a file."""
    adapt, cache = view.adapt, view.adapt.feature_cache
    head = HeadParams(
        epochs=0, batch_size=adapt.head.batch_size, augment=adapt.head.augment if cache.views else AugmentParams()
    )
    kept = FeatureCacheParams(paths=cache.paths, views=cache.views)
    return view.model_copy(update={"adapt": AdaptParams(sampling=adapt.sampling, head=head, feature_cache=kept)})


def _fill(
    file: FeatureFile,
    step: TrainingStep,
    adapt: AdaptParams,
    supernet: Supernet,
    store: ImageStore,
    paths: Sequence[Arguments],
) -> None:
    """Add to the file the paths that it lacks."""
    context = step.context
    found, own = file.open(), context.state_path.name
    counted = context.cost()["attempts"] > 1
    context.reused_seconds += sum(entry.seconds for entry in file.entries if not (counted and entry.run == own))
    if found:
        context.log(f"feature cache: {found} of {len(paths)} paths are there from an earlier run")
    step.runtime.place(supernet)
    with context.log.bar("features", len(paths), found) as bar:
        for number in range(found, len(paths)):
            begin = time.monotonic()
            digest = file.write(_features(step, adapt, supernet, store, paths[number], number))
            file.note(Entry(digest, round(time.monotonic() - begin, 3), own))
            context.note_cost()
            bar.advance()
    if found < len(paths):
        seconds = sum(entry.seconds for entry in file.entries[found:])
        context.log(f"feature cache: {len(paths) - found} paths in {seconds:.1f} s")


def _features(
    step: TrainingStep,
    adapt: AdaptParams,
    supernet: Supernet,
    store: ImageStore,
    path: Arguments,
    number: int,
) -> Iterator[np.ndarray]:
    """Yield the features fp16 (N, F) of all rows on one path, view after view."""
    params, rows = adapt.feature_cache, len(step.rows)
    augment = step.augment(adapt.head.augment if params.views else None)
    for turn in range(max(1, params.views)):
        # The long tail lies class by class, which makes no statistics; and a batch of a single row has no variance.
        order = stream(step.seed, "adapt", "cache", number, turn).permutation(rows)
        parts = np.array_split(order, math.ceil(rows / adapt.head.batch_size))

        def batches(turn: int = turn, parts: list[np.ndarray] = parts) -> Iterator[tuple[np.ndarray, Tensor]]:
            for batch, (part, (images, _)) in enumerate(zip(parts, store.batches(parts), strict=True)):
                seed = derive(step.seed, "adapt", "cache", number, turn, batch)
                yield part, augment(images, torch.Generator().manual_seed(seed) if params.views else None)

        yield path_features(supernet, step.runtime, path, batches(), rows)
