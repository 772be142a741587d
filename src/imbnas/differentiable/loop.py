"""The bilevel search: deterministic by counters, resumable at every step, one row of a trajectory per epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from imbnas.data.augment import Augment
from imbnas.differentiable import bilevel, collapse, schedules
from imbnas.differentiable.feeding import Views
from imbnas.differentiable.learners import Draw, Learner, Setting
from imbnas.differentiable.relaxation import ArchitectureParameters, mean_entropy, zero_one_loss
from imbnas.differentiable.split import Feed
from imbnas.errors import UserError
from imbnas.params.recipe import OptimizerParams
from imbnas.progress import Log
from imbnas.seeds import derive, stream
from imbnas.spaces.relaxed import Relaxed
from imbnas.training.batchnorm import batch_statistics
from imbnas.training.loop import Objective, Store
from imbnas.training.optimizer import SGD, make_optimizer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

CURVATURE_STEPS = 30


@dataclass(frozen=True)
class WeightPlan:
    """How the weights learn; `frozen` leaves them as they are, and only the architecture is searched."""

    optimizer: OptimizerParams
    last_rate: float
    frozen: bool


@dataclass(frozen=True)
class ArchitecturePlan:
    """How the architecture parameters learn: by Adam, first or second order, from epoch `warmup` on."""

    order: Literal["first", "second"]
    rate: float
    betas: tuple[float, float]
    decay: float
    schedule: schedules.RateSchedule
    warmup: int


@dataclass(frozen=True)
class Guards:
    """What is done against collapse."""

    zero_one: float
    zero_one_norm: Literal["l2", "l1"]
    skip: Literal["none", "linear", "cosine"]
    perturbation: Literal["none", "random", "adversarial"]
    first_radius: float
    last_radius: float
    eigenvalue_rows: int
    """Rows of the architecture's half on which the curvature is measured after each epoch; 0: never."""
    stop_ratio: float
    """0: never stop early."""
    window: int
    back: int
    patience: int


@dataclass(frozen=True)
class Search:
    """One differentiable search: what is trained on what.

    `feeds[level]` has one feed per draw of the learner: level 0 feeds the weights, level 1 the architecture.
    `describe(weights, epoch)` adds to an epoch's row: the derived architecture, its score and the like.
    """

    name: str
    learner: Learner
    parameters: ArchitectureParameters
    store: Store
    augment: Augment
    feeds: tuple[Sequence[Feed], Sequence[Feed]]
    objective: Objective
    mixing: schedules.Mixing
    fixed_mixing: float
    epochs: int
    weights: WeightPlan
    architecture: ArchitecturePlan
    guards: Guards
    seed: int
    describe: Callable[[Relaxed, int], dict[str, Any]]


Row = dict[str, Any]
"""One epoch of a trajectory: numbers, texts and lists of numbers."""


class _Run:
    """A search in progress."""

    def __init__(self, search: Search, runtime: Runtime) -> None:
        self.search, self.runtime = search, runtime
        self.learner: Learner = runtime.place(search.learner)  # type: ignore[assignment]
        self.parameters = search.parameters.to(runtime.device)
        self.learner.train()
        self.optimizer = None if search.weights.frozen else make_optimizer(self.learner, search.weights.optimizer)
        plan = search.architecture
        self.adam = torch.optim.Adam(
            self.parameters.parameters(), lr=plan.rate, betas=plan.betas, weight_decay=plan.decay
        )
        level = 1 if search.weights.frozen else 0
        self.per_epoch = search.feeds[level][0].length
        self.views = [self._views_of(level) for level in (0, 1)]
        self.step = 0
        self.rows: list[Row] = []
        self.losses = torch.zeros(2, device=runtime.device)
        self.stopped = False

    @property
    def steps(self) -> int:
        return self.per_epoch * self.search.epochs

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

    def architecture_step(self, train: Sequence[Draw], valid: Sequence[Draw], epoch: int, rate: float) -> None:
        plan, guards = self.search.architecture, self.search.guards
        skip = schedules.skip_weight(guards.skip, epoch, self.search.epochs)
        setting = self.setting(epoch)

        def valid_loss() -> Tensor:
            relaxed = self.parameters(skip)
            loss = self.loss(valid, relaxed, setting)
            if guards.zero_one:
                loss = loss + guards.zero_one * zero_one_loss(relaxed, guards.zero_one_norm)
            return loss

        wanted = list(self.parameters.parameters())
        if plan.order == "first" or self.optimizer is None:
            gradients, loss = bilevel.first_order(valid_loss, wanted)
        else:
            gradients, loss = bilevel.second_order(
                lambda: self.loss(train, self.parameters(skip), setting), valid_loss, wanted, self.optimizer, rate
            )
        for parameter, gradient in zip(wanted, gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()
        self.losses[1] += loss.float()

    def weight_step(self, optimizer: SGD, batch: Sequence[Draw], epoch: int) -> None:
        guards, setting = self.search.guards, self.setting(epoch)
        with torch.no_grad():
            relaxed = self.parameters(schedules.skip_weight(guards.skip, epoch, self.search.epochs)).detached()
        relaxed = self.perturbed(relaxed, batch, setting, epoch)
        optimizer.zero_grad()
        loss = self.loss(batch, relaxed, setting)
        loss.backward()
        clip = self.search.weights.optimizer.clip
        if clip:
            optimizer.clip(clip)
        optimizer.step()
        self.losses[0] += loss.detach().float()

    def perturbed(self, relaxed: Relaxed, batch: Sequence[Draw], setting: Setting, epoch: int) -> Relaxed:
        guards = self.search.guards
        if guards.perturbation == "none":
            return relaxed
        radius = collapse.perturbation_radius(epoch, self.search.epochs, guards.first_radius, guards.last_radius)
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
        adversarial = self.search.guards.perturbation == "adversarial"
        return nullcontext() if adversarial else batch_statistics(self.learner)

    @property
    def chosen(self) -> int:
        """The place in `rows` of the architecture that the search ends with."""
        if not self.stopped:
            return len(self.rows) - 1
        guards = self.search.guards
        return collapse.epoch_before_rise(len(self.rows), guards.window, guards.back, guards.patience) - 1

    def setting(self, epoch: int) -> Setting:
        search = self.search
        mixing = schedules.mixing_factor(search.mixing, epoch, search.epochs, search.fixed_mixing)
        return Setting(search.objective(epoch), mixing)

    # Epochs

    def epoch(self, epoch: int, state: ResumeState, bar: Any) -> None:
        """Take the steps of an epoch that are left, and add its row."""
        search, plan = self.search, self.search.architecture
        share = schedules.rate_share(plan.schedule, epoch, search.epochs) if epoch >= plan.warmup else 0.0
        schedules.set_architecture_rate(self.adam, plan.rate, plan.decay, share)
        weights = search.weights
        rate = schedules.weight_rate(weights.optimizer.lr, weights.last_rate, epoch, search.epochs)
        if self.optimizer is not None:
            self.optimizer.set_rate(rate)
        last = (epoch + 1) * self.per_epoch
        while self.step < last:
            train = [] if weights.frozen else self.views[0].take(self.step)
            if share:
                self.architecture_step(train, self.views[1].take(self.step), epoch, rate)
            if self.optimizer is not None:
                self.weight_step(self.optimizer, train, epoch)
            self.step += 1
            if self.step == last:
                self.close(epoch, rate, plan.rate * share)
            bar.advance(note=self.note())
            if self.step < self.steps and not self.stopped:
                state.tick(self.snapshot)

    def note(self) -> str:
        return f"entropy {self.rows[-1]['entropy']:.3f}" if self.rows else ""

    def close(self, epoch: int, rate: float, architecture_rate: float) -> None:
        search, guards = self.search, self.search.guards
        train, valid = (value / self.per_epoch for value in self.losses.tolist())
        if not (math.isfinite(train) and math.isfinite(valid)):
            raise UserError(
                f"{search.name}: the loss is {train} on the weights' and {valid} on the architecture's rows in epoch "
                f"{epoch + 1}, expected finite ones; lower search.darts.optimizer.lr "
                f"(found {search.weights.optimizer.lr:g}) or search.darts.architecture.lr"
            )
        self.losses.zero_()
        with torch.no_grad():
            relaxed = self.parameters()
        self.rows.append(
            {
                "generation": epoch,
                "train_loss": None if search.weights.frozen else train,
                "search_loss": valid if architecture_rate else None,
                "rate": None if search.weights.frozen else rate,
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
            rows = feed.rows[order[: self.search.guards.eigenvalue_rows]]
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


def search_architecture(search: Search, runtime: Runtime, state: ResumeState, log: Log) -> tuple[list[Row], int]:
    """Search and return one row per epoch, and the place of the row whose architecture is the outcome.

    That is the last row, unless the search stopped early: then it is the one before the eigenvalue rose.

    The learner and the architecture parameters are changed in place. Every random draw is a function of
    (seed, counter), so that an interrupted search ends with the same bytes. Raises UserError when the loss stops being
    finite, Interrupted after a signal.
    """
    run = _Run(search, runtime)
    run.restore(state, log)
    with run.statistics(), log.bar(search.name, run.steps, run.step) as bar:
        for epoch in range(run.step // run.per_epoch, search.epochs):
            if run.stopped:
                break
            run.epoch(epoch, state, bar)
            row = run.rows[-1]
            log.to_file(
                f"{search.name}: epoch {epoch + 1} of {search.epochs}, architecture rate "
                f"{row['architecture_rate']:.3g}, edge entropy {row['entropy']:.4f}"
            )
    if run.stopped:
        log(
            f"{search.name}: stopped after epoch {len(run.rows)}, the eigenvalue rose too fast; takes the architecture "
            f"of epoch {run.chosen + 1}, before the rise"
        )
    # The end is a state too: a kill before the outputs are written then repeats nothing.
    state.save(run.snapshot())
    return run.rows, run.chosen
