"""The bilevel search: deterministic by counters, resumable at every step, one row of a trajectory per epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imbnas.data.augment import Augment
from imbnas.differentiable import bilevel, collapse, search_schedules
from imbnas.differentiable.feeding import Views
from imbnas.differentiable.feeds import Feed
from imbnas.differentiable.learners import Draw, Learner, Setting
from imbnas.differentiable.relaxation import ArchitectureParameters, mean_entropy, zero_one_loss
from imbnas.errors import UserError
from imbnas.params.differentiable import DartsParams
from imbnas.progress import Log
from imbnas.seeds import derive, stream
from imbnas.spaces.relaxed import Relaxed
from imbnas.training.batchnorm import batch_statistics
from imbnas.training.checkpoint import not_finite
from imbnas.training.definition import Objective, Store
from imbnas.training.loop import SANE, has_diverged
from imbnas.training.optimizer import SGD, make_optimizer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState
from imbnas.waiting import StoppedWaiting

CURVATURE_STEPS = 30


@dataclass(frozen=True)
class BilevelSearch:
    """One differentiable search: what is trained on what, by which parameters.

    `frozen` leaves the weights as they are, so that the architecture alone is searched. `feeds[level]` has one feed per
    draw of the learner: level 0 feeds the weights, level 1 the architecture. `describe(weights, epoch)` adds to an
    epoch's row: the derived architecture, its score and the like.
    """

    params: DartsParams
    frozen: bool
    learner: Learner
    parameters: ArchitectureParameters
    store: Store
    augment: Augment
    feeds: tuple[Sequence[Feed], Sequence[Feed]]
    objective: Objective
    seed: int
    describe: Callable[[Relaxed, int], dict[str, Any]]
    name: str = "search"


Row = dict[str, Any]
"""One epoch of a trajectory: numbers, texts and lists of numbers."""


class _Run:
    """A search in progress."""

    def __init__(self, search: BilevelSearch, runtime: Runtime) -> None:
        self.search, self.runtime, self.params = search, runtime, search.params
        self.learner: Learner = runtime.place(search.learner)  # type: ignore[assignment]
        self.parameters = search.parameters.to(runtime.device)
        self.learner.train()
        self.optimizer = None if search.frozen else make_optimizer(self.learner, self.params.optimizer)
        plan = self.params.architecture
        self.adam = torch.optim.Adam(
            self.parameters.parameters(), lr=plan.lr, betas=(plan.beta1, plan.beta2), weight_decay=plan.weight_decay
        )
        level = 1 if search.frozen else 0
        self.per_epoch = search.feeds[level][0].length
        self.views = [self._views_of(level) for level in (0, 1)]
        self.step = 0
        self.rows: list[Row] = []
        self.losses = torch.zeros(2, device=runtime.device)
        self.stopped = False
        self.last: tuple[Sequence[Draw], int] | None = None

    @property
    def steps(self) -> int:
        return self.per_epoch * self.params.epochs

    def _views_of(self, level: int) -> Views:
        search = self.search

        def seed(number: int, view: int, step: int) -> int:
            return derive(search.seed, search.name, "augment", level, number, view, step)

        return Views(
            search.store,
            search.augment,
            self.runtime,
            search.feeds[level],
            self.per_epoch,
            self.learner.views,
            seed,
        )

    # Saved state

    def snapshot(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "parameters": self.parameters.state_dict(),
            "optimizer": {} if self.optimizer is None else self.optimizer.state_dict(),
            "adam": self.adam.state_dict(),
            "step": self.step,
            "rows": self.rows,
            "losses": self.losses.clone(),
            "stopped": self.stopped,
        }

    def restore(self, state: ResumeState, log: Log) -> None:
        """Go on from the saved state if there is one, and it is whole."""
        saved = state.load(log)
        if saved is None:
            return
        before = copy.deepcopy(self.snapshot())
        try:
            self.take(saved)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            self.take(before)
            state.begin_anew(error, log)
            return
        log(f"{self.search.name}: goes on from step {self.step} of {self.steps}")

    def take(self, saved: dict[str, Any]) -> None:
        """Take over what `snapshot` returned; ValueError, KeyError and the like where it is not of this search."""
        step, rows = saved["step"], list(saved["rows"])
        if type(step) is not int or not 0 <= step <= self.steps or len(rows) != step // self.per_epoch:
            raise ValueError(f"found step {step} with {len(rows)} epochs, expected at most {self.steps} steps")
        self.learner.load_state_dict(saved["learner"])
        self.parameters.load_state_dict(saved["parameters"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.adam.load_state_dict(saved["adam"])
        self.step, self.rows, self.stopped = step, rows, bool(saved["stopped"])
        self.losses = saved["losses"].to(self.runtime.device)

    # Steps

    def seed_step(self) -> None:
        # Dropout and the like draw from the global generator: seeding it per step keeps them functions of the counter.
        torch.manual_seed(derive(self.search.seed, self.search.name, "global", self.step))

    def loss(self, batch: Sequence[Draw], relaxed: Relaxed, setting: Setting) -> Tensor:
        self.seed_step()
        with self.runtime.autocast():
            return self.learner.loss(batch, relaxed, setting)

    def relaxed(self, epoch: int) -> Relaxed:
        """Return the operations' weights in an epoch, the auxiliary skip connection's among them."""
        return self.parameters(search_schedules.skip_weight(self.params.collapse.skip, epoch, self.params.epochs))

    def architecture_step(self, train: Sequence[Draw], valid: Sequence[Draw], epoch: int, rate: float) -> None:
        """Move the architecture parameters by an estimate of their gradient; `rate` is the weights' learning rate."""
        setting, params = self.setting(epoch), self.params

        def valid_loss() -> Tensor:
            relaxed = self.relaxed(epoch)
            loss = self.loss(valid, relaxed, setting)
            if params.zero_one:
                loss = loss + params.zero_one * zero_one_loss(relaxed, params.zero_one_norm)
            return loss

        levels = bilevel.Levels(
            train=lambda: self.loss(train, self.relaxed(epoch), setting),
            valid=valid_loss,
            architecture=list(self.parameters.parameters()),
            optimizer=self.optimizer,
            rate=rate,
        )
        gradients, loss = bilevel.GRADIENTS[params.order](levels)
        for parameter, gradient in zip(levels.architecture, gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()
        self.losses[1] += loss.float()

    def weight_step(self, optimizer: SGD, batch: Sequence[Draw], epoch: int) -> None:
        setting = self.setting(epoch)
        with torch.no_grad():
            relaxed = self.relaxed(epoch).detached()
        relaxed = self.perturbed(relaxed, batch, setting, epoch)
        optimizer.zero_grad()
        loss = self.loss(batch, relaxed, setting)
        loss.backward()
        clip = self.params.optimizer.clip
        if clip:
            optimizer.clip(clip)
        optimizer.step()
        self.losses[0] += loss.detach().float()

    def perturbed(self, relaxed: Relaxed, batch: Sequence[Draw], setting: Setting, epoch: int) -> Relaxed:
        guards = self.params.collapse
        if guards.perturbation == "none":
            return relaxed
        radius = collapse.perturbation_radius(epoch, self.params.epochs, guards.first_radius, guards.last_radius)
        generator = torch.Generator().manual_seed(derive(self.search.seed, "perturbation", self.step))
        if guards.perturbation == "random":
            return collapse.random_perturbation(relaxed, radius, generator)
        self.learner.eval()
        try:
            return collapse.adversarial_perturbation(
                relaxed, radius, lambda moved: self.loss(batch, moved, setting), generator
            )
        finally:
            self.learner.train()

    def statistics(self) -> AbstractContextManager[None]:
        """Return the context in which BatchNorm normalises with each batch's own statistics.

        Running ones are kept for the adversary alone: it sees the network in evaluation mode, as in SmoothDARTS' code.
        """
        adversarial = self.params.collapse.perturbation == "adversarial"
        return nullcontext() if adversarial else batch_statistics(self.learner)

    @property
    def chosen(self) -> int:
        """The place in `rows` of the architecture that the search ends with."""
        if not self.stopped:
            return len(self.rows) - 1
        guards = self.params.collapse
        return collapse.epoch_before_rise(len(self.rows), guards.window, guards.back, guards.patience) - 1

    def setting(self, epoch: int) -> Setting:
        params = self.params
        mixing = search_schedules.mixing_factor(params.mixing, epoch, params.epochs, params.fixed)
        return Setting(self.search.objective(epoch), mixing)

    # Epochs

    def epoch(self, epoch: int, state: ResumeState, bar: Any) -> None:
        """Take the steps of an epoch that are left, and add its row."""
        params, plan = self.params, self.params.architecture
        share = search_schedules.rate_share(plan.schedule, epoch, params.epochs) if epoch >= plan.warmup else 0.0
        search_schedules.set_architecture_rate(self.adam, plan.lr, plan.weight_decay, share)
        rate = search_schedules.weight_rate(params.optimizer.lr, params.last_lr, epoch, params.epochs)
        if self.optimizer is not None:
            self.optimizer.set_rate(rate)
        last = (epoch + 1) * self.per_epoch
        while self.step < last:
            try:
                train = [] if self.search.frozen else self.views[0].take(self.step)
                valid = self.views[1].take(self.step) if share else []
            except StoppedWaiting:
                state.save(self.snapshot())
                raise
            self.last = (valid or train, epoch)
            if share:
                self.architecture_step(train, valid, epoch, rate)
            if self.optimizer is not None:
                self.weight_step(self.optimizer, train, epoch)
            self.step += 1
            if self.step == last:
                self.close(epoch, rate, plan.lr * share)
            bar.advance(note=self.note())
            if self.step < self.steps and not self.stopped:
                state.tick(self.snapshot)

    @torch.no_grad()
    def check_finished(self) -> None:
        """Raise UserError where the last step has ruined the network or the architecture."""
        name = not_finite({**self.learner.state_dict(), **self.parameters.state_dict()})
        what = f"{name} holds numbers that are not finite" if name else ""
        if not what and self.last is not None:
            with batch_statistics(self.learner):
                loss = self.loss(self.last[0], self.parameters(), self.setting(self.last[1])).item()
            what = f"the loss is {loss:g}" if has_diverged(loss) else ""
        if what:
            raise UserError(
                f"{self.search.name}: after the last step {what}, expected {SANE}; lower search.darts.optimizer.lr "
                f"(found {self.params.optimizer.lr:g}) or search.darts.architecture.lr"
            )

    def note(self) -> str:
        return f"entropy {self.rows[-1]['entropy']:.3f}" if self.rows else ""

    def close(self, epoch: int, rate: float, architecture_rate: float) -> None:
        search, guards = self.search, self.params.collapse
        train, valid = (value / self.per_epoch for value in self.losses.tolist())
        if has_diverged(train) or has_diverged(valid):
            raise UserError(
                f"{search.name}: the loss is {train} on the weights' and {valid} on the architecture's rows in epoch "
                f"{epoch + 1}, expected finite ones; lower search.darts.optimizer.lr "
                f"(found {self.params.optimizer.lr:g}) or search.darts.architecture.lr"
            )
        self.losses.zero_()
        with torch.no_grad():
            relaxed = self.parameters()
        self.rows.append(
            {
                "generation": epoch,
                "train_loss": None if search.frozen else train,
                "search_loss": valid if architecture_rate else None,
                "rate": None if search.frozen else rate,
                "architecture_rate": architecture_rate,
                "mixing": self.setting(epoch).mixing if self.learner.draws > 1 else None,
                "entropy": mean_entropy(self.parameters),
                "eigenvalue": self.eigenvalue(epoch) if guards.eigenvalue_rows else None,
                **{
                    f"alpha_{kind}": values.detach().double().flatten().tolist()
                    for kind, values in self.parameters.operations.items()
                },
                **search.describe(relaxed, epoch),
            }
        )
        values = [row["eigenvalue"] for row in self.rows]
        if guards.stop_ratio and guards.eigenvalue_rows:
            self.stopped = collapse.should_stop(values, guards.stop_ratio, guards.window, guards.back, guards.patience)

    def eigenvalue(self, epoch: int) -> float:
        """Return the dominant eigenvalue of the loss on fixed rows of the architecture's half, without augmentation.

        They are drawn once and at random: rows lie class by class.
        """
        draws = []
        for number, feed in enumerate(self.search.feeds[1]):
            order = stream(self.search.seed, "eigenvalue", "rows", number).permutation(len(feed.rows))
            rows = feed.rows[order[: self.params.collapse.eigenvalue_rows]]
            images, labels = next(self.search.store.batches([rows]))
            draws.append((images, labels))
        if self.learner.views > 1:
            batch = self.views[1].of(draws, self.step)
        else:
            batch = [Draw(self.runtime.lay_out(self.search.augment(images, None)), labels) for images, labels in draws]
        generator = torch.Generator().manual_seed(derive(self.search.seed, "eigenvalue"))
        with batch_statistics(self.learner):
            loss = self.loss(batch, self.parameters(), self.setting(epoch))
            return collapse.dominant_eigenvalue(loss, list(self.parameters.parameters()), generator, CURVATURE_STEPS)


def search_architecture(search: BilevelSearch, runtime: Runtime, state: ResumeState, log: Log) -> tuple[list[Row], int]:
    """Search and return one row per epoch, and the place of the row whose architecture is the outcome.

    That is the last row, unless the search stopped early: then it is the one before the eigenvalue rose.

    The learner and the architecture parameters are changed in place. Every random draw is a function of
    (seed, counter), so that an interrupted search ends with the same bytes. Raises UserError when the loss stops being
    finite, Interrupted after a signal.
    """
    run = _Run(search, runtime)
    run.restore(state, log)
    with run.statistics(), log.bar(search.name, run.steps, run.step) as bar:
        for epoch in range(run.step // run.per_epoch, search.params.epochs):
            if run.stopped:
                break
            run.epoch(epoch, state, bar)
            row = run.rows[-1]
            log.to_file(
                f"{search.name}: epoch {epoch + 1} of {search.params.epochs}, architecture rate "
                f"{row['architecture_rate']:.3g}, edge entropy {row['entropy']:.4f}"
            )
    if run.stopped:
        log(
            f"{search.name}: stopped after epoch {len(run.rows)}, the eigenvalue rose too fast; takes the architecture "
            f"of epoch {run.chosen + 1}, before the rise"
        )
    run.check_finished()
    # The end is a state too: a kill before the outputs are written then repeats nothing.
    state.save(run.snapshot())
    return run.rows, run.chosen
