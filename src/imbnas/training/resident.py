"""Batches of images that lie on the device, made there by whole numbers alone: positions, and what was drawn for them.

The numbers of an epoch are drawn and taken to the device at once, and what makes a batch of them is part of the step,
which a GPU may record: in each step nothing is left to do but to say which numbers are meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from imbnas.data.augment import Augment
from imbnas.seeds import derive
from imbnas.training.definition import Training


@runtime_checkable
class ResidentStore(Protocol):
    """A store whose images may lie on the device as a whole."""

    labels: Tensor

    @property
    def side(self) -> tuple[int, int] | None:
        """Height and width of the images; None where they lie elsewhere."""
        ...

    def taken(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels at positions (int64, (B,)) on the device."""
        ...


@dataclass(frozen=True)
class Resident:
    """The images of a training and their augmentation."""

    training: Training
    store: ResidentStore
    augment: Augment
    side: tuple[int, int]

    @classmethod
    def of(cls, training: Training) -> Resident | None:
        """Return what makes a training's batches by numbers; None where files, policies or mixing do more than that."""
        store, augment = training.store, training.augment
        if not (training.capturable and isinstance(store, ResidentStore) and isinstance(augment, Augment)):
            return None
        side = store.side
        plain = training.mix is None and training.views_in == training.views_out == 1
        return cls(training, store, augment, side) if side and plain and augment.indexed else None

    def codes(self, batches: Sequence[np.ndarray], first: int) -> Iterator[Tensor]:
        """Yield the numbers (1 + K, B) of each batch: positions, then draws; the first one is that of step `first`.

        Raises IndexError for a position outside the store.
        """
        found, rows = [], len(self.store.labels)
        for step, batch in enumerate(batches, first):
            if len(batch) and not (batch.min() >= 0 and batch.max() < rows):
                raise IndexError(f"positions {batch.min()}..{batch.max()}, expected 0..{rows - 1}")
            seed = derive(self.training.seed, self.training.name, "augment", step)
            drawn = self.augment.drawn(torch.Generator().manual_seed(seed), len(batch), *self.side)
            found.append(torch.cat([torch.from_numpy(batch.astype(np.int64, copy=False))[None], drawn]))
        if not found:
            return
        device = self.store.labels.device
        whole = torch.cat(found, dim=1)
        # Memory from which a GPU copies by itself: nobody waits.
        whole = whole.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else whole
        yield from whole.split([len(batch) for batch in batches], dim=1)

    def made(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the augmented images and the labels that these numbers stand for."""
        images, labels = self.store.taken(codes[0])
        return self.augment.placed(images, codes[1:]), labels
