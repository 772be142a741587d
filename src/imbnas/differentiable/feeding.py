"""The feeding of a bilevel search: augmented views of each step's draws."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from imbnas.data.augment import Augment
from imbnas.data.loading import AheadStore, Task, unchanged
from imbnas.differentiable.feeds import Feed
from imbnas.differentiable.learners import Draw
from imbnas.training.definition import Store
from imbnas.training.inputs import halves
from imbnas.training.runtime import Runtime


class Views:
    """The draws of one level, a function of the step; one batch of each feed, in as many views as the learner wants."""

    def __init__(
        self,
        store: Store,
        augment: Augment,
        runtime: Runtime,
        feeds: Sequence[Feed],
        per_epoch: int,
        views: int,
        seed: Callable[[int, int, int], int],
        stride: int = 1,
        first: tuple[int, int] = (0, 0),
    ) -> None:
        """Take where images lie and how they change; `seed` follows from the numbers of feed, view and step.

        Of `stride` steps one takes draws; the rows of the others are not read. `first` are a step and the epoch that
        begins there: from it on every epoch has `per_epoch` steps.
        """
        self._first = first
        self._store, self._augment, self._runtime, self._feeds = store, augment, runtime, feeds
        self._stride = stride
        self._per_epoch, self._views, self._seed = per_epoch, views, seed
        self._stream: Generator[list[Draw], None, None] | None = None
        self._next = 0

    def take(self, step: int) -> list[Draw]:
        """Return the draws of a step, each feed's views behind one another. Steps a stride apart are made ahead."""
        if self._stream is None or self._next != step:
            self.close()
            early, _ = halves(self._augment)
            store, ahead = self._store, early is not unchanged
            self._stream = (
                self._made_ahead(store, step) if ahead and isinstance(store, AheadStore) else self._made(step)
            )
        self._next = step + self._stride
        return next(self._stream)

    def close(self) -> None:
        """End the workers that make draws ahead.

        They are in a cycle of references. Where Python collects that, a worker is not told, and has to be waited for.
        """
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def of(self, draws: Sequence[tuple[Tensor, Tensor]], step: int) -> list[Draw]:
        """Return the views of images and labels that a step would see."""
        found = []
        for number, (images, labels) in enumerate(draws):
            for view in range(self._views):
                generator = torch.Generator().manual_seed(self._seed(number, view, step))
                found.append(Draw(self._runtime.lay_out(self._augment(images, generator)), labels))
        return found

    def _epochs(self, first: int) -> Iterator[list[list[np.ndarray]]]:
        """Yield for each epoch from the one of step `first` on the batches of each feed that are left to take in it."""
        origin, begin = self._first
        step = first
        while True:
            passed, start = divmod(step - origin, self._per_epoch)
            epoch = begin + passed
            yield [feed.batches(epoch, start, self._per_epoch)[:: self._stride] for feed in self._feeds]
            step += self._stride * -(-(self._per_epoch - start) // self._stride)

    def _made(self, first: int) -> Generator[list[Draw], None, None]:
        steps = count(first, self._stride)
        for batches in self._epochs(first):
            for draws in zip(*map(self._store.batches, batches), strict=True):
                yield self.of(draws, next(steps))

    def _made_ahead(self, store: AheadStore, first: int) -> Generator[list[Draw], None, None]:
        early, late = halves(self._augment)

        def tasks() -> Iterator[Task]:
            steps = count(first, self._stride)
            for epoch in self._epochs(first):
                for batches, step in zip(zip(*epoch, strict=True), steps):  # noqa: B905
                    for number, batch in enumerate(batches):
                        for view in range(self._views):
                            yield Task(batch, self._seed(number, view, step))

        made = store.ahead(tasks(), early)
        while True:
            taken = (next(made) for _ in range(len(self._feeds) * self._views))
            yield [Draw(self._runtime.lay_out(late(images, generator)), labels) for images, labels, generator in taken]
