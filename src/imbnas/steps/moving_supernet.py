"""The supernet of a search that moves it: its weights are a function of the generations so far.

A saved state takes the place of the moves that lead to it, and never changes where they lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from imbnas.errors import UserError
from imbnas.files import canonical_json, digest_bytes
from imbnas.params.longtail import ClassifierParams, ClassifierTraining
from imbnas.params.recipe import RecipeParams
from imbnas.params.search import SearchView
from imbnas.seeds import derive
from imbnas.spaces.networks import Architecture, Supernet
from imbnas.steps.objective import make_objective, make_sampler
from imbnas.steps.supernets import build_adapted, read_adapted
from imbnas.steps.workbench import TrainingStep
from imbnas.training.checkpoint import not_finite
from imbnas.training.inputs import batches_of
from imbnas.training.optimizer import Optimizer, make_optimizer
from imbnas.training.state import ResumeState
from imbnas.training.summed_step import summed_step

Generations = Sequence[Sequence[Architecture]]
"""The candidates of each generation, in ascending order."""


class MovingSupernet:
    """A supernet whose weights are a function of the generations so far."""

    def __init__(self, step: TrainingStep, view: SearchView, state: ResumeState) -> None:
        """Read the adapted supernet; a saved state is looked at when weights are asked for."""
        self._step, self._view, self._state = step, view, state
        self._adapted = read_adapted(step.context.path("adapted"), view.space, step.rows.split.info)
        self.network: Supernet = step.placed(build_adapted(step.space, self._adapted))
        step.runtime.place(self.network)
        # What scores holds all weights; what a strategy has frozen never moves.
        self._learned = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        self._optimizer = self._first_optimizer()
        self._done = 0
        self._looked = False
        params, generations = view.search.shifting, view.search.generations
        seed = derive(step.seed, "search", "shifting", "rows")
        self._sampler = make_sampler(params.sampler, step.rows.labels, seed, generations)
        section = ClassifierTraining(
            loss=params.loss,
            losses=params.losses,
            weighting=params.weighting,
            classifier=ClassifierParams(scale=float(self._adapted.head.get("scale", 1.0))),
        )
        recipe = RecipeParams(epochs=generations)
        self._objective = make_objective(section, recipe, step.rows.counts, step.runtime.device)
        self._store, self._augment = step.store(), step.augment(params.augment)

    def move_after(self, generations: Generations) -> None:
        """Bring the weights to where they are after these generations, which are never fewer than in the call before.

        A saved state of the first of them takes their place. Raises UserError where weights stop being finite.
        """
        if not self._looked:
            self._looked = True
            self._restore(generations)
        for candidates in generations[self._done :]:
            self._move(candidates)
            self._done += 1
            self._state.save(self._snapshot(generations))

    def weights_after(self, generations: Generations) -> dict[str, Tensor]:
        """Return the whole state after these generations, on the CPU."""
        self.move_after(generations)
        moved = {name: p.detach().cpu() for name, p in self._learned.items()}
        return {**self._adapted.weights, **moved}

    def _move(self, candidates: Sequence[Architecture]) -> None:
        """Take the steps that follow a generation."""
        step, params = self._step, self._view.search.shifting
        batches = batches_of(self._sampler.epoch(self._done), params.batch_size)
        rows = [batches[number % len(batches)] for number in range(params.updates)]
        loss = self._objective(self._done)
        for parameter in self._learned.values():
            parameter.requires_grad_(True)
        for number, (images, labels) in enumerate(self._store.batches(rows)):
            seed = derive(step.seed, "search", "shifting", self._done, number)
            inputs = self._augment(images, torch.Generator().manual_seed(derive(seed, "augment")))
            summed_step(
                step.runtime,
                self.network,
                self._optimizer,
                loss,
                (inputs, labels),
                candidates,
                seed,
                params.optimizer.clip,
            )
        for parameter in self._learned.values():
            parameter.requires_grad_(False)
        if name := not_finite(dict(self._learned)):
            raise UserError(
                f"search.shifting: after generation {self._done} {name} holds numbers that are not finite, expected "
                f"finite ones; lower search.shifting.optimizer.lr (found {params.optimizer.lr:g})"
            )
        step.context.log(f"the supernet has moved on {len(candidates)} candidates of generation {self._done}")

    def _first_optimizer(self) -> Optimizer:
        return make_optimizer(self.network, self._view.search.shifting.optimizer)

    def _snapshot(self, generations: Generations) -> dict[str, Any]:
        return {
            "done": self._done,
            "generations": digest_of(generations[: self._done]),
            "weights": {name: p.detach() for name, p in self._learned.items()},
            "optimizer": self._optimizer.state_dict(),
        }

    def _restore(self, generations: Generations) -> None:
        """Take over a saved state that follows from the first of these generations, if it is whole."""
        saved = self._state.load(self._step.context.log)
        if saved is None:
            return
        try:
            done = saved["done"]
            if type(done) is not int or not 0 < done <= len(generations):
                return
            if saved["generations"] != digest_of(generations[:done]):
                return
            self._optimizer.load_state_dict(saved["optimizer"])
            with torch.no_grad():
                for name, parameter in self._learned.items():
                    parameter.copy_(saved["weights"][name])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            self.network.load_state_dict(self._adapted.weights)
            self._optimizer = self._first_optimizer()
            self._state.begin_anew(error, self._step.context.log)
            return
        self._done = done


def digest_of(generations: Generations) -> str:
    """Return what names the weights after these generations, "" after none."""
    return digest_bytes(canonical_json([[list(a) for a in one] for one in generations]).encode()) if generations else ""
