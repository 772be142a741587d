"""Both levels' steps of a bilevel search: gradients of the weights and of the architecture parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imbnas.data.augment import Augment
from imbnas.differentiable import bilevel, collapse, search_schedules
from imbnas.differentiable.feeds import Feed
from imbnas.differentiable.learners import Draw, Learner, Setting
from imbnas.differentiable.relaxation import ArchitectureParameters, zero_one_loss
from imbnas.params.differentiable import DartsParams
from imbnas.seeds import derive
from imbnas.spaces.relaxed import Relaxed
from imbnas.training.definition import Objective, Store
from imbnas.training.optimizer import SGD, make_optimizer
from imbnas.training.runtime import Runtime


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


class Descent:
    """The learner and the architecture parameters of a search, their optimisers, and the steps that are done.

    `losses` are the sums of the weights' and the architecture's losses since they were last set to zero.
    """

    def __init__(self, search: BilevelSearch, runtime: Runtime) -> None:
        self.search, self.runtime = search, runtime
        self.learner: Learner = runtime.place(search.learner)  # type: ignore[assignment]
        self.parameters = search.parameters.to(runtime.device)
        self.learner.train()
        self.optimizer = None if search.frozen else make_optimizer(self.learner, search.params.optimizer)
        plan = search.params.architecture
        self.adam = torch.optim.Adam(
            self.parameters.parameters(), lr=plan.lr, betas=(plan.beta1, plan.beta2), weight_decay=plan.weight_decay
        )
        self.done = 0
        self.losses = torch.zeros(2, device=runtime.device)

    def step(self, train: Sequence[Draw], valid: Sequence[Draw], epoch: int, rate: float) -> None:
        """Take one step of the architecture, which rests where `valid` is empty, and one of weights that learn."""
        if valid:
            self._architecture_step(train, valid, epoch, rate)
        if self.optimizer is not None:
            self._weight_step(self.optimizer, train, epoch)
        self.done += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the state between two steps."""
        return {
            "learner": self.learner.state_dict(),
            "parameters": self.parameters.state_dict(),
            "optimizer": {} if self.optimizer is None else self.optimizer.state_dict(),
            "adam": self.adam.state_dict(),
            "step": self.done,
            "losses": self.losses.clone(),
        }

    def take(self, saved: Mapping[str, Any]) -> None:
        """Take over what `snapshot` returned; ValueError, KeyError and the like where it is not of this search."""
        self.learner.load_state_dict(saved["learner"])
        self.parameters.load_state_dict(saved["parameters"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.adam.load_state_dict(saved["adam"])
        self.done = saved["step"]
        self.losses = saved["losses"].to(self.runtime.device)

    def setting(self, epoch: int) -> Setting:
        """Return the loss function of an epoch, and the share of each branch in it."""
        params = self.search.params
        mixing = search_schedules.mixing_factor(params.mixing, epoch, params.epochs, params.fixed)
        return Setting(self.search.objective(epoch), mixing)

    def loss(self, batch: Sequence[Draw], relaxed: Relaxed, setting: Setting) -> Tensor:
        """Return the loss on a batch; its random draws are a function of the steps that are done."""
        # Dropout and the like draw from the global generator: seeding it per step keeps them functions of the counter.
        torch.manual_seed(derive(self.search.seed, self.search.name, "global", self.done))
        with self.runtime.autocast():
            return self.learner.loss(batch, relaxed, setting)

    def relaxed(self, epoch: int) -> Relaxed:
        """Return the operations' weights in an epoch, the auxiliary skip connection's among them."""
        params = self.search.params
        return self.parameters(search_schedules.skip_weight(params.collapse.skip, epoch, params.epochs))

    def _architecture_step(self, train: Sequence[Draw], valid: Sequence[Draw], epoch: int, rate: float) -> None:
        """Move the architecture parameters by an estimate of their gradient; `rate` is the weights' learning rate."""
        setting, params = self.setting(epoch), self.search.params

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

    def _weight_step(self, optimizer: SGD, batch: Sequence[Draw], epoch: int) -> None:
        """Move the weights by the gradient of the loss at the architecture, perturbed where the parameters say so."""
        setting = self.setting(epoch)
        with torch.no_grad():
            relaxed = self.relaxed(epoch).detached()
        relaxed = self.perturbed(relaxed, batch, setting, epoch)
        optimizer.zero_grad()
        loss = self.loss(batch, relaxed, setting)
        loss.backward()
        clip = self.search.params.optimizer.clip
        if clip:
            optimizer.clip(clip)
        optimizer.step()
        self.losses[0] += loss.detach().float()

    def perturbed(self, relaxed: Relaxed, batch: Sequence[Draw], setting: Setting, epoch: int) -> Relaxed:
        """Return the operations' weights moved as the guard against collapse says, at random or against the loss."""
        guards = self.search.params.collapse
        if guards.perturbation == "none":
            return relaxed
        radius = collapse.perturbation_radius(epoch, self.search.params.epochs, guards.first_radius, guards.last_radius)
        generator = torch.Generator().manual_seed(derive(self.search.seed, "perturbation", self.done))
        if guards.perturbation == "random":
            return collapse.random_perturbation(relaxed, radius, generator)
        self.learner.eval()
        try:
            return collapse.adversarial_perturbation(
                relaxed, radius, lambda moved: self.loss(batch, moved, setting), generator
            )
        finally:
            self.learner.train()
