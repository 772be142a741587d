"""The states of a training between two steps: taking one, also without waiting for a GPU, and going on from one."""

from __future__ import annotations

import copy
from typing import Any

from imbnas.progress import Log
from imbnas.training.definition import Training
from imbnas.training.epoch_losses import EpochLosses
from imbnas.training.fetching import Fetched, beside
from imbnas.training.optimizer import Optimizer
from imbnas.training.state import ResumeState, progress

AHEAD = 2.0
"""Seconds before a state is due in which it is asked for, where other trainings must not wait for it."""


class Snapshots:
    """The states of one training, whose model lies on the device."""

    def __init__(self, training: Training, optimizer: Optimizer, losses: EpochLosses, state: ResumeState) -> None:
        """Take what belongs to a state, and where it is saved."""
        self._training, self._optimizer, self._losses, self._state = training, optimizer, losses, state
        self._coming: Fetched | None = None

    def take(self, done: int) -> dict[str, Any]:
        """Return the whole state after `done` steps."""
        self._coming = None
        now = self._now(done)
        return self._saved(Fetched(now).get() if self._beside else now)

    def save_ahead(self, done: int) -> None:
        """Beside others, save a state that was asked for some steps ago, so that they need not wait for it."""
        if self._coming is not None:
            if self._coming.ready:
                coming, self._coming = self._coming, None
                self._state.save(self._saved(coming.get()))
        elif self._state.due(AHEAD) and self._losses.complete and self._beside:
            self._coming = Fetched(self._now(done))

    def restore(self, steps: int, per_epoch: int, log: Log) -> tuple[int, list[float]]:
        """Go on from the saved state if there is one, and it is whole; return its steps and its history."""
        saved, model = self._state.load(log), self._training.model
        if saved is None:
            return 0, []
        before = copy.deepcopy((model.state_dict(), self._optimizer.state_dict()))
        try:
            found = progress(saved, steps, per_epoch)
            self._optimizer.load_state_dict(saved["optimizer"])
            model.load_state_dict(saved["model"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            model.load_state_dict(before[0])
            self._optimizer.load_state_dict(before[1])
            self._state.begin_anew(error, log)
            return 0, []
        return found

    @property
    def _beside(self) -> bool:
        return beside(self._losses.running.device)

    def _now(self, done: int) -> dict[str, Any]:
        return {
            "model": self._training.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": done,
            "history": list(self._losses.history),
            "running": self._losses.running,
        }

    def _saved(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state as it is saved: the sum of an unfinished epoch is the last number of the history."""
        running = state.pop("running")
        if state["step"] % self._losses.per_epoch:
            state["history"].append(running.item())
        return state
