"""The mean loss of each epoch of a training: summed up on the device, checked, told and kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch

from imbnas.training.definition import Training
from imbnas.training.divergence import SANE, diverged, has_diverged
from imbnas.training.fetching import Fetched, beside


class EpochLosses:
    """The losses of the epochs that are over, and the sum of the present one.

    Beside other trainings a sum is read when it has come, some steps later: to wait for it would hold up all of them.
    """

    def __init__(self, training: Training, per_epoch: int, tell: Callable[[str], None]) -> None:
        """Begin without any; `per_epoch` is the number of steps of each."""
        self.per_epoch = per_epoch
        self._training, self._tell = training, tell
        self._history: list[float] = []
        self._coming: deque[Fetched] = deque()
        self.running = torch.zeros(())
        """The sum over the steps of the present epoch, on the device once `begin` was called."""

    def begin(self, device: torch.device, history: list[float], inside: bool) -> None:
        """Go on from a history; its last entry is the sum of an unfinished epoch where the training is `inside` one."""
        self._history = list(history)
        self.running = torch.zeros((), device=device)
        if inside:
            self.running += self._history.pop()

    def close(self) -> None:
        """End the epoch. Raises UserError for a loss that shows that the training has failed, maybe an earlier one."""
        if beside(self.running.device):
            self._coming.append(Fetched(self.running))
        else:
            self._take(self.running.item())
        self.running.zero_()

    def arrive(self, wait: bool = False) -> None:
        """Take what has come, with `wait` all that was asked for; raises as `close` does."""
        while self._coming and (wait or self._coming[0].ready):
            self._take(self._coming.popleft().get().item())

    @property
    def complete(self) -> bool:
        """Whether the loss of each epoch that is over is known."""
        return not self._coming

    @property
    def history(self) -> list[float]:
        """The mean loss of each epoch that is over."""
        self.arrive(wait=True)
        return self._history

    @property
    def last(self) -> float | None:
        """The last mean loss that is known, None before the first."""
        return self._history[-1] if self._history else None

    def _take(self, total: float) -> None:
        training, mean, epoch = self._training, total / self.per_epoch, len(self._history) + 1
        if has_diverged(mean):
            raise diverged(training, f"the loss is {mean:g} in epoch {epoch}, expected {SANE}")
        self._tell(f"{training.name}: epoch {epoch} of {training.recipe.epochs}, loss {mean:.4f}")
        self._history.append(mean)
