"""The inputs of a training: its batches, augmented, from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count

import numpy as np
import torch
from torch import Tensor

from imbnas.data.augment import Augment
from imbnas.data.loading import AheadStore, Early, Task, unchanged
from imbnas.seeds import derive
from imbnas.training.definition import Training
from imbnas.training.ranks import Ranks
from imbnas.training.resident import Resident

Late = Callable[[Tensor, torch.Generator], Tensor]
"""The part of an augmentation that is done at the step."""


def batches_of(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an epoch's rows into batches; a last batch of a single row is left out, since BatchNorm needs two."""
    cuts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return cuts[:-1] if len(cuts) > 1 and len(cuts[-1]) == 1 else cuts


def inputs(
    training: Training, ranks: Ranks, first: int, per_epoch: int, resident: Resident | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the augmented inputs and the labels of each optimiser step from `first` on, whole batches on the device.

    Where batches are made by numbers (`resident`) these come in place of inputs, and positions in place of labels.
    What takes the processor long (files to decode, policies) is done ahead, across the ends of epochs.
    """

    def epochs() -> Iterator[Sequence[np.ndarray]]:
        begin, place = divmod(first, per_epoch)
        for epoch in range(begin, training.recipe.epochs):
            batches = batches_of(training.sampler.epoch(epoch), training.recipe.batch_size)
            yield batches[place:] if epoch == begin else batches

    def seed(step: int) -> int:
        return derive(training.seed, training.name, "augment", step)

    if resident is not None:
        step = first
        for batches in epochs():
            yield from ((codes, codes[0]) for codes in resident.codes(batches, step))
            step += len(batches)
        return
    store, (early, late) = training.store, halves(training.augment)
    if isinstance(store, AheadStore) and (store.decodes or early is not unchanged):
        tasks = (Task(batch, seed(step)) for step, batch in enumerate(chain.from_iterable(epochs()), first))
        for images, labels, generator in ranks.spread(store).ahead(tasks, early):
            yield late(images, generator), labels
        return
    steps = count(first)
    for batches in epochs():
        for (images, labels), step in zip(store.batches(batches), steps):  # noqa: B905
            yield training.augment(images, torch.Generator().manual_seed(seed(step))), labels


def halves(augment: Late) -> tuple[Early, Late]:
    """Return what of an augmentation may be done ahead, and what is left."""
    if isinstance(augment, Augment) and augment.policy is not None:
        return augment.early, augment.late
    return unchanged, augment
