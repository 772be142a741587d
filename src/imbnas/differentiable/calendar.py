"""The steps of the epochs of a search, which are longer once the architecture is frozen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Calendar:
    """Epochs of `before` steps each, and of `after` steps each from the epoch `frozen` on."""

    before: int
    after: int
    frozen: int
    epochs: int

    @property
    def steps(self) -> int:
        """All steps."""
        return self.begin(self.epochs)

    def begin(self, epoch: int) -> int:
        """Return the first step of an epoch, counted from 0."""
        return self.before * min(epoch, self.frozen) + self.after * max(0, epoch - self.frozen)

    def length(self, epoch: int) -> int:
        """Return the steps of an epoch."""
        return self.before if epoch < self.frozen else self.after

    def epoch(self, step: int) -> int:
        """Return the epoch of a step, that is, how many epochs are over before it."""
        first = self.begin(self.frozen)
        return step // self.before if step < first else self.frozen + (step - first) // self.after
