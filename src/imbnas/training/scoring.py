"""Scoring one path of a supernet: measure its BatchNorm statistics anew, then count right answers per class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.data.augment import Augment
from imbnas.data.images import ImageStore
from imbnas.training.batchnorm import averaged
from imbnas.training.runtime import Runtime

CACHE_BYTES = 2 << 30


@dataclass(frozen=True)
class Tally:
    """Right answers and rows of each class, two int64 arrays of length C, and whether each row was answered right."""

    correct: np.ndarray
    support: np.ndarray
    right: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """Per-class accuracy, float64; NaN for a class without rows."""
        with np.errstate(invalid="ignore"):
            return self.correct / self.support

    @property
    def accuracy(self) -> float:
        """Share of right answers over all rows."""
        return float(self.correct.sum() / self.support.sum())

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the per-class accuracies over the classes that have rows."""
        return float(np.nanmean(self.recall))


def tally(answers: Sequence[Tensor], labels: Iterable[Tensor], num_classes: int) -> Tally:
    """Count predicted classes, batch by batch, against the labels.

    On the processor, in one go: counting on a GPU would make it wait for each batch.
    """
    predicted, true = (torch.cat([*batches]).cpu().numpy() for batches in (answers, labels))
    right = predicted == true
    support = np.bincount(true, minlength=num_classes)
    return Tally(np.bincount(true[right], minlength=num_classes), support, right)


class Batches:
    """Rows of a store as evaluation batches; decoded once and kept as bytes when that takes at most 2 GiB."""

    def __init__(self, store: ImageStore, batch_size: int) -> None:
        """Prepare; nothing is read yet."""
        self._store = store
        self._batch_size = batch_size
        self._kept: list[tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._store)

    def labels(self) -> Iterator[Tensor]:
        """Yield the labels of each batch; no image is read."""
        return iter(self._store.labels.split(self._batch_size))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images uint8 NCHW, labels) in the store's order."""
        if self._kept is not None:
            yield from self._kept
            return
        shape = self._store.shape
        if len(self._store) * shape.height * shape.width * shape.channels > CACHE_BYTES:
            yield from self._store.ordered(self._batch_size)
            return
        self._kept = list(self._store.ordered(self._batch_size))
        yield from self._kept


class Scorer:
    """Scores paths of a supernet on fixed rows; a score depends on the path alone, not on what was scored before."""

    def __init__(
        self,
        runtime: Runtime,
        supernet: nn.Module,
        calibration: Batches,
        validation: Batches,
        augment: Augment,
        num_classes: int,
    ) -> None:
        """Place the supernet; `augment` is used without a generator, which is plain normalisation."""
        self._runtime = runtime
        self._supernet = runtime.place(supernet).requires_grad_(False)
        self._calibration = calibration
        self._validation = validation
        self._augment = augment
        self._num_classes = num_classes

    def __call__(self, *path: Any) -> Tally:
        """Return the tally of `supernet(images, *path)`.

        The statistics of each BatchNorm layer are the mean over the calibration batches of their means and unbiased
        variances, each batch normalised by its own statistics (Guo et al. 2020, section 3.4; order-independent).
        """
        model = self._supernet
        answers = []
        with torch.no_grad(), self._runtime.autocast():
            model.train()
            for images, _ in averaged(model, self._calibration):
                model(self._prepare(images), *path)
            model.eval()
            for images, _ in self._validation:
                answers.append(model(self._prepare(images), *path).argmax(dim=1))
        return tally(answers, self._validation.labels(), self._num_classes)

    def _prepare(self, images: Tensor) -> Tensor:
        return self._runtime.lay_out(self._augment(images, None))
