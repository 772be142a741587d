"""The training loop: deterministic by counters, resumable at every optimiser step, blind to what it trains."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from imbnas.progress import Log
from imbnas.seeds import derive
from imbnas.training.batchnorm import untracked
from imbnas.training.checkpoint import not_finite
from imbnas.training.cuda_graphs import GraphedStep, recorded_parts
from imbnas.training.definition import Loss, Taught, Training
from imbnas.training.divergence import SANE, diverged, has_diverged
from imbnas.training.epoch_losses import EpochLosses
from imbnas.training.inputs import batches_of, inputs
from imbnas.training.one_pass import OnePass
from imbnas.training.optimizer import Optimizer, rate_factor
from imbnas.training.resident import Resident
from imbnas.training.runtime import Runtime, drawing
from imbnas.training.snapshots import Snapshots
from imbnas.training.state import ResumeState
from imbnas.training.turns import Turns
from imbnas.waiting import StoppedWaiting

Passes = Sequence[tuple[Any, ...]]


class Trainer:
    """One training in progress: its optimiser, the loss of its present epoch, and the steps that are done."""

    loss_of: Loss
    optimizer: Optimizer
    """Made once the model lies on the device, as `loss_of` is in each epoch."""

    def __init__(self, training: Training, runtime: Runtime, state: ResumeState, log: Log, tag: str = "") -> None:
        """Take what is trained, and where its state lies; `tag` tells it from other trainings in the log."""
        self.training, self.runtime, self._state, self._log = training, runtime, state, log
        self._tag = ending = f" ({tag})" if tag else ""
        recipe = training.recipe
        self.per_epoch = len(batches_of(training.sampler.epoch(0), recipe.batch_size)) if recipe.epochs else 0
        self.steps = self.per_epoch * recipe.epochs
        self.done = 0
        self.losses = EpochLosses(training, self.per_epoch, lambda line: log.to_file(line + ending))
        self._resident = Resident.of(training) if runtime.ranks.count == 1 else None
        self._graphed = GraphedStep() if training.capturable and runtime.records else None
        self._one_pass = None if training.together is None else OnePass(training.together, runtime)
        self._last: tuple[Passes, int, Tensor, Any] | None = None

    def fit(self) -> list[float]:
        """Train the model in place, resumably, and return the mean loss of each epoch; none where there is no epoch.

        Every random draw is a function of (seed, counter), so the bytes that come out are the same whether or not the
        training was interrupted. The saved state stays until the step's output is written. Raises UserError when the
        loss or, at the end, the network stops being finite, Interrupted after a signal, PeerLost when another of the
        processes that train together has ended.
        """
        turns = self.turns()
        try:
            while True:
                next(turns)
        except StopIteration as end:
            return list(end.value)

    def turns(self) -> Turns[list[float]]:
        """Do what `fit` does, and stop after each step, so that other trainings can take theirs (`training.turns`)."""
        training, state, runtime = self.training, self._state, self.runtime
        if not training.recipe.epochs:
            return []
        with state.held():
            with runtime.ranks.training(runtime.place(training.model)):
                self._begin()
                parts = runtime.records and self._one_pass is None
                recorded = recorded_parts(training.model) if parts else nullcontext()
                with recorded, self._log.bar(training.name + self._tag, self.steps, self.done) as bar, self._saving():
                    yield 0
                    for batch, labels in self._batches():
                        self._set_rate()
                        loss = self.step(batch, labels)
                        if not self._sums:
                            self.losses.running += loss
                        self.done += 1
                        if self.done % self.per_epoch == 0:
                            self.losses.close()
                        self.losses.arrive()
                        bar.advance(note=f"loss {self.losses.last:.3f}" if self.losses.last is not None else "")
                        if self.done < self.steps:
                            self._snapshots.save_ahead(self.done)
                            state.tick(self.snapshot)
                        yield len(labels)
                self.check_finished()
                # The end is a state too: a kill before the outputs are written then repeats nothing.
                state.save(self.snapshot())
            state.pause()
        return self.losses.history

    def _begin(self) -> None:
        """Make the optimiser of the model, which lies on the device, and take over a saved state."""
        self.optimizer = self.training.optimizer(self.training.model, self.training.recipe.optimizer)
        if self.training.teacher is not None:
            self.runtime.place(self.training.teacher).eval()
        self._snapshots = Snapshots(self.training, self.optimizer, self.losses, self._state)
        self.done, history = self._snapshots.restore(self.steps, self.per_epoch, self._log)
        if self.done:
            self._log(f"{self.training.name}: goes on from optimiser step {self.done}{self._tag}")
        self.losses.begin(self.runtime.device, history, inside=bool(self.done % self.per_epoch))

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the inputs and the labels of each step that is left; an epoch begins with its loss."""
        training = self.training
        feed = inputs(training, self.runtime.ranks, self.done, self.per_epoch, self._resident)
        for epoch in range(self.done // self.per_epoch, training.recipe.epochs):
            self.loss_of = training.objective(epoch)
            training.model.train()
            yield from islice(feed, self.per_epoch - self.done % self.per_epoch)

    def _set_rate(self) -> None:
        recipe = self.training.recipe
        self.optimizer.set_rate(recipe.optimizer.lr * rate_factor(recipe.schedule, self.done, self.steps))

    # Steps

    def step(self, batch: Tensor, labels: Tensor) -> Tensor:
        """Take one optimiser step and return its mean loss over the passes, still on the device."""
        training, ranks = self.training, self.runtime.ranks
        # Dropout and the like draw from the global generator: seeding it per step keeps them functions of the counter.
        # Each process has a stream of its own: one for all would give their rows the same draws.
        stream = ("global", self.done) if ranks.first else ("global", self.done, ranks.rank)
        self.runtime.seed(derive(training.seed, training.name, *stream))
        passes, resident, numbers = training.passes(self.done), self._resident, batch
        last = self.done == self.steps - 1
        if resident is not None and (last or not self._sums):
            batch, labels = resident.made(numbers)
        target: Any = labels
        if training.mix is not None:
            draws = torch.Generator().manual_seed(derive(training.seed, training.name, "mix", self.done))
            batch, target = training.mix(batch, labels, draws)
        # All processes have the whole batch: what is drawn for it, and what is mixed, is then the same in each.
        rows = (len(batch) if resident is None else len(labels)) // training.views_in * training.views_out
        own = self.runtime.lay_out(ranks.own(batch, training.views_in))
        if last:
            self._last = (passes, rows, own, target)
        key: Hashable = tuple(passes)
        learn: Callable[[Tensor, Any], Tensor] = partial(self._learn, passes, rows)
        if self._one_pass is not None:
            self._one_pass.route(passes)
            key = len(passes)
            learn = partial(self._one_pass.learn, training, self.optimizer, self.loss_of, self.done, key)
        if self._graphed is None:
            return learn(own, target)
        if resident is not None:
            own, target, learn = numbers, (), partial(self._make_and_learn, resident, learn)
        return self._graphed((self.loss_of, key, rows), learn, own, target)

    def _make_and_learn(
        self, resident: Resident, learn: Callable[[Tensor, Any], Tensor], codes: Tensor, _: Any
    ) -> Tensor:
        """Make a batch of its numbers and learn from it; what a recording does itself, nobody has to ask for."""
        images, labels = resident.made(codes)
        loss = learn(self.runtime.lay_out(images), labels)
        if self._sums:
            self.losses.running += loss
        return loss

    @property
    def _sums(self) -> bool:
        """Whether a step adds its loss to the epoch's by itself."""
        return self._resident is not None and self._graphed is not None

    def _learn(self, passes: Passes, rows: int, own: Tensor, target: Any) -> Tensor:
        """Move the weights by the gradients of all passes over a whole batch, which has `rows` outputs.

        `own` are this process's inputs; `target` is everybody's.
        """
        training, optimizer = self.training, self.optimizer
        optimizer.zero_grad()
        total = torch.zeros((), device=self.runtime.device)
        target = self._target(rows, own, target)
        for number, arguments in enumerate(passes):
            outputs = self._outputs(training.model, arguments, rows, own)
            with drawing(derive(training.seed, training.name, "loss", self.done, number)):
                loss = self.loss_of(outputs, target)
            (loss if training.paths_per_batch == 1 else loss * training.paths_per_batch).backward()
            total += loss.detach().float()
            if training.first_pass_teaches and number == 0:
                # A recorded part overwrites its output when it is next called.
                target = Taught(target, outputs.detach().clone())
        self.runtime.ranks.add_gradients(optimizer.parameters)
        if training.recipe.optimizer.clip:
            optimizer.clip(training.recipe.optimizer.clip)
        optimizer.step()
        return total / len(passes)

    def _outputs(self, model: nn.Module, arguments: tuple[Any, ...], rows: int, own: Tensor) -> Any:
        """Return the outputs of all processes in one pass."""
        outputs = self.runtime.forward(model, own, *arguments)
        return self.runtime.ranks.gather(outputs, rows, self.training.views_out)

    def _target(self, rows: int, own: Tensor, target: Any) -> Any:
        """Return the loss's target in a step's first pass: with the teacher's logits where there is a teacher."""
        teacher = self.training.teacher
        if teacher is None:
            return target
        with torch.no_grad():
            return Taught(target, self._outputs(teacher, (), rows, own))

    # Saved state

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state between two steps."""
        return self._snapshots.take(self.done)

    @contextmanager
    def _saving(self) -> Iterator[None]:
        """Save the state when the training is stopped while it waits for a batch, which is between two steps.

        Several processes save together or not at all: the others may be within a step.
        """
        try:
            yield
        except StoppedWaiting:
            if self.runtime.ranks.count == 1:
                self._state.save(self.snapshot())
            raise

    # Checks

    def check_finished(self) -> None:
        """Raise UserError where the last step has ruined the network, which no later loss of this training tells."""
        if name := not_finite(self.training.model.state_dict()):
            raise diverged(
                self.training, f"after the last step {name} holds numbers that are not finite, expected finite ones"
            )
        loss = self._last_loss()
        if loss is not None and has_diverged(loss):
            raise diverged(self.training, f"the loss is {loss:g} after the last step, expected {SANE}")

    def _last_loss(self) -> float | None:
        """Return the loss of the last step's batch on the network after that step; None where there was no step."""
        if self._last is None:
            return None
        (passes, rows, own, target), training = self._last, self.training
        with torch.no_grad(), untracked(training.model), drawing(derive(training.seed, training.name, "last")):
            outputs = self._outputs(training.model, passes[0], rows, own)
            target = self._target(rows, own, target)
            with drawing(derive(training.seed, training.name, "loss", self.done, 0)):
                return self.loss_of(outputs, target).item()
