"""Batches of both levels of a bilevel search, and the steps of its epochs."""

from __future__ import annotations

from collections.abc import Sequence

from imbnas.differentiable.calendar import Calendar
from imbnas.differentiable.descent import Descent
from imbnas.differentiable.feeding import Views
from imbnas.differentiable.feeds import Feed
from imbnas.seeds import derive


class LevelViews:
    """The draws of each level: `levels[0]` for the weights, `levels[1]` for the architecture."""

    def __init__(self, descent: Descent) -> None:
        search = self.search = descent.search
        self._descent = descent
        self._per_epoch = search.feeds[1 if search.frozen else 0][0].length
        self.levels = [self._views_of(level, feeds) for level, feeds in enumerate(search.feeds)]
        self._joined: Views | None = None

    def _views_of(self, level: int, feeds: Sequence[Feed], first: tuple[int, int] = (0, 0)) -> Views:
        search = self.search

        def seed(number: int, view: int, step: int) -> int:
            return derive(search.seed, search.name, "augment", level, number, view, step)

        return Views(
            search.store,
            search.augment,
            self._descent.runtime,
            feeds,
            self.calendar.length(first[1]),
            self._descent.learner.views,
            seed,
            self._descent.strategy.stride if level else 1,
            first,
        )

    @property
    def calendar(self) -> Calendar:
        """The steps of each epoch, which has more of them once the architecture is frozen and all rows are joined."""
        joined = self.search.joined[0].length if self.search.joined else self._per_epoch
        return Calendar(self._per_epoch, joined, self._descent.frozen_from, self.search.params.epochs)

    def of_weights(self, epoch: int) -> Views:
        """Return what feeds the weights in an epoch."""
        frozen = self._descent.frozen_from
        if not self.search.joined or epoch < frozen:
            return self.levels[0]
        if self._joined is None:
            self._joined = self._views_of(0, self.search.joined, (self.calendar.begin(frozen), frozen))
        return self._joined

    def close(self) -> None:
        """End the workers that make draws ahead."""
        for views in (*self.levels, self._joined):
            if views is not None:
                views.close()
