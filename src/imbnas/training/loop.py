"""The training loop: deterministic by counters, resumable at every optimiser step, blind to what it trains."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.data.order import Sampler
from imbnas.errors import UserError
from imbnas.params.recipe import RecipeParams
from imbnas.progress import Log
from imbnas.seeds import derive
from imbnas.training.batchnorm import untracked
from imbnas.training.checkpoint import not_finite
from imbnas.training.cuda_graphs import Recorder, recorded_parts
from imbnas.training.inputs import batches_of, inputs
from imbnas.training.optimizer import SGD, make_optimizer, rate_factor
from imbnas.training.ranks import Ranks
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState
from imbnas.waiting import StoppedWaiting

LARGEST_LOSS = 1e9
"""Beyond it a training has failed. No loss comes near: cross-entropies are at most their scale times the largest class
weight times a few units, Barlow Twins over D outputs at most D + D^2; and float32 has no digits behind the point there.
"""
SANE = f"a finite one up to {LARGEST_LOSS:g}"
Loss = Callable[[Tensor, Any], Tensor]
Mix = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Any]]
"""From inputs (N, C, H, W), labels (N,) and a CPU generator to other inputs and the loss's target."""


class Objective(Protocol):
    """A function from the epoch to its loss: the seam for deferred and progressive schedules."""

    def __call__(self, epoch: int) -> Loss:
        """Return the loss of the 0-based epoch, a mean over the batch."""
        ...


class Store(Protocol):
    """A source of a training's inputs: images, or features of them."""

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels, on the device, for each array of positions."""
        ...


@dataclass(frozen=True)
class Job:
    """One training: what is trained on what.

    `passes(step)` gives, for an optimiser step, the extra arguments of each forward pass: an empty tuple for a plain
    network, one architecture per path for a supernet. Their gradients add up, as in FairNAS. `mix` acts on augmented
    inputs; its target goes to the objective's loss as it is. `together` says how many passes the store has joined into
    each batch: their gradients add up too, so that the loss, a mean over the batch, counts as many times. `repeats`:
    model and loss draw nothing on the processor and keep no state there, and a step's work on the device is a function
    of its loss, its passes and the shapes of its batch; then a GPU may play recorded steps back.
    """

    name: str
    model: nn.Module
    recipe: RecipeParams
    store: Store
    augment: Callable[[Tensor, torch.Generator], Tensor]
    sampler: Sampler
    objective: Objective
    seed: int
    passes: Callable[[int], Sequence[tuple[Any, ...]]] = lambda step: [()]
    mix: Mix | None = None
    together: int = 1
    parts: tuple[int, int] = (1, 1)
    repeats: bool = False


def train(job: Job, runtime: Runtime, state: ResumeState, log: Log) -> list[float]:
    """Train `job.model` in place and return the mean loss of each epoch.

    Every random draw is a function of (seed, counter), so the bytes that come out are the same whether or not the
    training was interrupted. Raises UserError when the loss or, at the end, the network stops being finite, Interrupted
    after a signal, PeerLost when another of the processes that train together has ended.
    """
    with runtime.ranks.training(runtime.place(job.model)):
        return _train(job, runtime, state, log)


def _train(job: Job, runtime: Runtime, state: ResumeState, log: Log) -> list[float]:
    recipe, model = job.recipe, job.model
    optimizer = make_optimizer(model, recipe.optimizer)
    per_epoch = len(batches_of(job.sampler.epoch(0), recipe.batch_size))
    steps = per_epoch * recipe.epochs
    step, history = _restore(job, model, optimizer, state, per_epoch, log)
    learner = _Learner(job, optimizer, runtime, steps)
    running = torch.zeros((), device=runtime.device)
    if step % per_epoch:
        running += history.pop()

    def snapshot() -> dict[str, Any]:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "history": [*history, running.item()] if step % per_epoch else list(history),
        }

    feed = inputs(job, runtime.ranks, step, per_epoch)
    recorded = recorded_parts(model) if runtime.records else nullcontext()
    with recorded, log.bar(job.name, steps, step) as bar, _saving(state, snapshot, runtime.ranks):
        for epoch in range(step // per_epoch, recipe.epochs):
            loss_of = job.objective(epoch)
            model.train()
            for batch, labels in islice(feed, per_epoch - step % per_epoch):
                optimizer.set_rate(recipe.optimizer.lr * rate_factor(recipe.schedule, step, steps))
                running += _step(job, learner, runtime, loss_of, batch, labels, step)
                step += 1
                if step % per_epoch == 0:
                    history.append(_close_epoch(job, epoch, running, per_epoch, log))
                    running.zero_()
                bar.advance(note=f"loss {history[-1]:.3f}" if history else "")
                if step < steps:
                    state.tick(snapshot)
    _check_finished(job, learner)
    # The end is a state too: a kill before the outputs are written then repeats nothing.
    state.save(snapshot())
    return history


@contextmanager
def _saving(state: ResumeState, snapshot: Callable[[], dict[str, Any]], ranks: Ranks) -> Iterator[None]:
    """Save the state when the training is stopped while it waits for a batch, which is between two steps.

    Several processes save together or not at all: the others may be within a step.
    """
    try:
        yield
    except StoppedWaiting:
        if ranks.count == 1:
            state.save(snapshot())
        raise


def _step(
    job: Job, learner: _Learner, runtime: Runtime, loss_of: Loss, batch: Tensor, labels: Tensor, step: int
) -> Tensor:
    """Take one optimiser step and return its mean loss over the passes, still on the device."""
    # Dropout and the like draw from the global generator: seeding it per step keeps them functions of the counter.
    # Each process has a stream of its own: one for all would give their rows the same draws.
    ranks = runtime.ranks
    stream = ("global", step) if ranks.first else ("global", step, ranks.rank)
    runtime.seed(derive(job.seed, job.name, *stream))
    target: Any = labels
    if job.mix is not None:
        draws = torch.Generator().manual_seed(derive(job.seed, job.name, "mix", step))
        batch, target = job.mix(batch, labels, draws)
    # All processes have the whole batch: what is drawn for it, and who is mixed with whom, is then the same in each.
    ins, outs = job.parts
    rows = len(batch) // ins * outs
    return learner(runtime.lay_out(ranks.own(batch, ins)), target, loss_of, job.passes(step), rows, step)


class _Learner:
    """Moves the weights of a training, on a GPU by recorded steps where they repeat."""

    def __init__(self, job: Job, optimizer: SGD, runtime: Runtime, steps: int) -> None:
        self._job, self._optimizer, self._runtime, self._steps = job, optimizer, runtime, steps
        self._recorder = Recorder() if job.repeats and runtime.records else None
        self._last: tuple[Loss, Sequence[tuple[Any, ...]], int, int, Tensor, Any] | None = None

    def __call__(
        self, inputs: Tensor, target: Any, loss_of: Loss, passes: Sequence[tuple[Any, ...]], rows: int, step: int
    ) -> Tensor:
        """Take a step for a whole batch with `rows` outputs, and return the mean loss over the passes."""
        if step == self._steps - 1:
            self._last = (loss_of, passes, rows, step, inputs, target)
        work = partial(self._learn, loss_of, passes, rows, step)
        if self._recorder is None:
            return work(inputs, target)
        return self._recorder((loss_of, tuple(passes), rows), work, inputs, target)

    def _learn(
        self, loss_of: Loss, passes: Sequence[tuple[Any, ...]], rows: int, step: int, inputs: Tensor, target: Any
    ) -> Tensor:
        job, optimizer, ranks = self._job, self._optimizer, self._runtime.ranks
        optimizer.zero_grad()
        total = torch.zeros((), device=self._runtime.device)
        for number, arguments in enumerate(passes):
            loss = self._loss(loss_of, arguments, rows, (step, number), inputs, target)
            (loss if job.together == 1 else loss * job.together).backward()
            total += loss.detach().float()
        ranks.add_gradients(optimizer.parameters)
        if job.recipe.optimizer.clip:
            optimizer.clip(job.recipe.optimizer.clip)
        optimizer.step()
        return total / len(passes)

    def _loss(
        self, loss_of: Loss, arguments: tuple[Any, ...], rows: int, place: tuple[int, int], inputs: Tensor, target: Any
    ) -> Tensor:
        """Return the loss of one pass; `place` are the step and the number of the pass in it."""
        job, ranks = self._job, self._runtime.ranks
        outputs = ranks.gather(self._runtime.forward(job.model, inputs, *arguments), rows, job.parts[1])
        with _drawing(derive(job.seed, job.name, "loss", *place)):
            return loss_of(outputs, target)

    def last_loss(self) -> float | None:
        """Return the loss of the last step's batch on the network after that step; None where there was no step."""
        if self._last is None:
            return None
        loss_of, passes, rows, step, inputs, target = self._last
        with torch.no_grad(), untracked(self._job.model), _drawing(derive(self._job.seed, self._job.name, "last")):
            return self._loss(loss_of, passes[0], rows, (step + 1, 0), inputs, target).item()


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Let a loss draw from a stream of its own, the same in all processes: all take the loss of the whole batch."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def _close_epoch(job: Job, epoch: int, running: Tensor, per_epoch: int, log: Log) -> float:
    mean = running.item() / per_epoch
    if has_diverged(mean):
        raise _diverged(job, f"the loss is {mean:g} in epoch {epoch + 1}, expected {SANE}")
    log.to_file(f"{job.name}: epoch {epoch + 1} of {job.recipe.epochs}, loss {mean:.4f}")
    return mean


def has_diverged(loss: float) -> bool:
    """Return whether a loss shows that the training has failed: not finite, or beyond LARGEST_LOSS."""
    return not abs(loss) <= LARGEST_LOSS


def _diverged(job: Job, what: str) -> UserError:
    return UserError(
        f"{job.name}: {what}; "
        f"lower its optimizer.lr (found {job.recipe.optimizer.lr:g}), its optimizer.clip or its loss's options"
    )


def _check_finished(job: Job, learner: _Learner) -> None:
    """Raise UserError where the last step has ruined the network: no loss will tell, and the next step is blamed."""
    if name := not_finite(job.model.state_dict()):
        raise _diverged(job, f"after the last step {name} holds numbers that are not finite, expected finite ones")
    loss = learner.last_loss()
    if loss is not None and has_diverged(loss):
        raise _diverged(job, f"the loss is {loss:g} after the last step, expected {SANE}")


def _restore(
    job: Job, model: nn.Module, optimizer: SGD, state: ResumeState, per_epoch: int, log: Log
) -> tuple[int, list[float]]:
    """Load a saved state into model and optimiser and return its step and history; (0, []) without one."""
    saved = state.load(log)
    if saved is None:
        return 0, []
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    try:
        step, history = _progress(saved, per_epoch, per_epoch * job.recipe.epochs)
        optimizer.load_state_dict(saved["optimizer"])
        model.load_state_dict(saved["model"])
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        model.load_state_dict(before[0])
        optimizer.load_state_dict(before[1])
        state.begin_anew(error, log)
        return 0, []
    log(f"{job.name}: goes on from optimiser step {step}")
    return step, history


def _progress(saved: Mapping[str, Any], per_epoch: int, steps: int) -> tuple[int, list[float]]:
    """Return the step and the history of a saved state; ValueError where they are not those of such a training."""
    step, history = saved["step"], [float(value) for value in saved["history"]]
    if type(step) is not int or not 0 < step <= steps or len(history) != -(-step // per_epoch):
        raise ValueError(f"found step {step} with {len(history)} epochs, expected at most {steps} steps")
    return step, history
