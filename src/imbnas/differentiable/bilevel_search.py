"""The bilevel search: deterministic by counters, resumable at every step, one row of a trajectory per epoch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch

from imbnas.differentiable import collapse, search_schedules
from imbnas.differentiable.calendar import Calendar
from imbnas.differentiable.descent import Descent
from imbnas.differentiable.epoch_row import Row, architecture_row
from imbnas.differentiable.learners import Draw
from imbnas.differentiable.level_views import LevelViews
from imbnas.differentiable.search_definition import BilevelSearch
from imbnas.differentiable.stability import Settling
from imbnas.errors import UserError
from imbnas.progress import Log
from imbnas.training.batchnorm import batch_statistics
from imbnas.training.checkpoint import not_finite
from imbnas.training.divergence import SANE, has_diverged
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState
from imbnas.waiting import StoppedWaiting

Stop = Literal["", "eigenvalue", "settled"]
"""Why a search has stopped early, "" where it has not."""


class SearchTrainer:
    """One search in progress: its descent, the rows of its finished epochs, and whether it stopped early."""

    def __init__(self, search: BilevelSearch, runtime: Runtime, state: ResumeState, log: Log) -> None:
        self.search, self.runtime, self._state, self._log = search, runtime, state, log
        self.descent = Descent(search, runtime)
        self.views = LevelViews(self.descent)
        self.rows: list[Row] = []
        self.stopped: Stop = ""
        self._settling = Settling(search.params)
        self._last: tuple[Sequence[Draw], int, int] | None = None

    @property
    def calendar(self) -> Calendar:
        """The steps of each epoch, as they are now."""
        return self.views.calendar

    def fit(self) -> tuple[list[Row], int]:
        """Search and return one row per epoch, and the place of the row whose architecture is the outcome.

        That is the last row, unless the search stopped since the eigenvalue rose: then it is the one before that.

        The learner and the architecture parameters are changed in place. Every random draw is a function of
        (seed, counter), so that an interrupted search ends with the same bytes. Raises UserError when the loss stops
        being finite, Interrupted after a signal.
        """
        search, log = self.search, self._log
        self._restore()
        with (
            self._statistics(),
            closing(self.views),
            log.bar(search.name, self.calendar.steps, self.descent.done) as bar,
        ):
            for epoch in range(self.calendar.epoch(self.descent.done), search.params.epochs):
                if self.stopped:
                    break
                self._epoch(epoch, bar)
                row = self.rows[-1]
                log.to_file(
                    f"{search.name}: epoch {epoch + 1} of {search.params.epochs}, architecture rate "
                    f"{row['architecture_rate']:.3g}, edge entropy {row['entropy']:.4f}"
                )
        if self.stopped:
            log(f"{search.name}: stopped after epoch {len(self.rows)}, {self._reason()}")
        self.check_finished()
        # The end is a state too: a kill before the outputs are written then repeats nothing.
        self._state.save(self.snapshot())
        return self.rows, self.chosen

    def _reason(self) -> str:
        """Return why the search has stopped, and what it takes."""
        if self.stopped == "settled":
            return self._settling.words
        return f"the eigenvalue rose too fast; takes the architecture of epoch {self.chosen + 1}, before the rise"

    def _statistics(self) -> AbstractContextManager[None]:
        """Return the context in which BatchNorm normalises with each batch's own statistics.

        Running ones are kept for the adversary alone: it sees the network in evaluation mode, as in SmoothDARTS' code.
        """
        adversarial = self.search.params.collapse.perturbation == "adversarial"
        return nullcontext() if adversarial else batch_statistics(self.descent.learner)

    @property
    def chosen(self) -> int:
        """The place in `rows` of the architecture that the search ends with."""
        if self.stopped != "eigenvalue":
            return len(self.rows) - 1
        guards = self.search.params.collapse
        return collapse.epoch_before_rise(len(self.rows), guards.window, guards.back, guards.patience) - 1

    # Epochs

    def _epoch(self, epoch: int, bar: Any) -> None:
        """Take the steps of an epoch that are left, and add its row."""
        params, descent = self.search.params, self.descent
        descent.begin_epoch(epoch)
        plan = params.architecture
        learns = plan.warmup <= epoch < descent.frozen_from
        share = search_schedules.rate_share(plan.schedule, epoch, params.epochs) if learns else 0.0
        search_schedules.set_architecture_rate(descent.adam, plan.lr, plan.weight_decay, share)
        learns = bool(share)
        rate = search_schedules.weight_rate(params.optimizer.lr, params.last_lr, epoch, params.epochs)
        if descent.optimizer is not None:
            descent.optimizer.set_rate(rate)
        last, weights = self.calendar.begin(epoch + 1), self.views.of_weights(epoch)
        while descent.done < last:
            try:
                train = [] if self.search.frozen else weights.take(descent.done)
                wanted = learns and descent.strategy.needs_rows(descent.done)
                valid = self.views.levels[1].take(descent.done) if wanted else []
            except StoppedWaiting:
                self._state.save(self.snapshot())
                raise
            self._last = (valid or train, epoch, 1 if valid else 0)
            descent.step(train, valid, epoch, rate, learns=learns)
            if descent.done == last:
                self._close_epoch(epoch, rate, plan.lr * share)
            bar.advance(note=f"entropy {self.rows[-1]['entropy']:.3f}" if self.rows else "")
            if descent.done < self.calendar.steps and not self.stopped:
                self._state.tick(self.snapshot)

    def _close_epoch(self, epoch: int, rate: float, architecture_rate: float) -> None:
        search, descent, guards = self.search, self.descent, self.search.params.collapse
        train, valid = descent.losses.tolist()
        train, valid = train / self.calendar.length(epoch), valid / max(1, descent.estimates)
        if has_diverged(train) or has_diverged(valid):
            raise self._diverged(
                f"the loss is {train} on the weights' and {valid} on the architecture's rows in epoch {epoch + 1}, "
                "expected finite ones"
            )
        moved, descent.estimates = descent.estimates > 0, 0
        descent.losses.zero_()
        closing = descent.strategy.close_epoch(learned=moved)
        with torch.no_grad():
            relaxed = descent.judged(epoch)
        facts = {
            "generation": epoch,
            "train_loss": None if search.frozen else train,
            "search_loss": valid if moved else None,
            "rate": None if search.frozen else rate,
            "architecture_rate": architecture_rate,
        }
        self.rows.append(
            {
                **facts,
                **architecture_row(descent, self.views.levels[1], relaxed, epoch),
                **closing,
                **self._settling.row(relaxed, self.rows, learning=descent.learns_in(epoch)),
                **search.describe(relaxed, epoch),
            }
        )
        values = [row["eigenvalue"] for row in self.rows]
        if (
            guards.stop_ratio
            and guards.eigenvalue_rows
            and collapse.should_stop(values, guards.stop_ratio, guards.window, guards.back, guards.patience)
        ):
            self.stopped = "eigenvalue"
        elif search.params.stability.divergence and self.descent.learns_in(epoch):
            self._settle(epoch)

    def _settle(self, epoch: int) -> None:
        """Stop where the architecture has settled; a mixture's is frozen, and its weights go on."""
        if not self._settling.reached(self.rows):
            return
        if not self.search.joined:
            self.stopped = "settled"
        elif epoch + 1 < self.descent.frozen_from:
            self.descent.frozen_from = epoch + 1
            self._log(f"{self.search.name}: frozen after epoch {epoch + 1}, {self._settling.words}")

    # Saved state

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state between two steps."""
        return {**self.descent.snapshot(), "rows": self.rows, "stopped": self.stopped}

    def _restore(self) -> None:
        """Go on from the saved state if there is one, and it is whole."""
        saved = self._state.load(self._log)
        if saved is None:
            return
        before = copy.deepcopy(self.snapshot())
        try:
            self._take(saved)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            self._take(before)
            self._state.begin_anew(error, self._log)
            return
        self._log(f"{self.search.name}: goes on from step {self.descent.done} of {self.calendar.steps}")

    def _take(self, saved: Mapping[str, Any]) -> None:
        """Take over what `snapshot` returned; ValueError, KeyError and the like where it is not of this search."""
        step, rows = saved["step"], list(saved["rows"])
        calendar = replace(self.calendar, frozen=int(saved["frozen_from"]))
        if type(step) is not int or not 0 <= step <= calendar.steps or len(rows) != calendar.epoch(step):
            raise ValueError(f"found step {step} with {len(rows)} epochs, expected at most {calendar.steps} steps")
        self.descent.take(saved)
        self.rows, self.stopped = rows, saved["stopped"]

    # Checks

    @torch.no_grad()
    def check_finished(self) -> None:
        """Raise UserError where the last step has ruined the network or the architecture."""
        descent = self.descent
        if name := not_finite({**descent.learner.state_dict(), **descent.parameters.state_dict()}):
            raise self._diverged(f"after the last step {name} holds numbers that are not finite, expected {SANE}")
        if self._last is None:
            return
        batch, epoch, level = self._last
        with batch_statistics(descent.learner):
            loss = descent.loss(batch, descent.judged(epoch), descent.setting(epoch, level)).item()
        if has_diverged(loss):
            raise self._diverged(f"after the last step the loss is {loss:g}, expected {SANE}")

    def _diverged(self, what: str) -> UserError:
        return UserError(
            f"{self.search.name}: {what}; lower search.darts.optimizer.lr "
            f"(found {self.search.params.optimizer.lr:g}) or search.darts.architecture.lr"
        )
