"""Both levels' steps of a bilevel search: gradients of the weights and of the architecture parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from imbnas.differentiable import bilevel, collapse, search_schedules
from imbnas.differentiable.learners import Draw, Learner, Setting
from imbnas.differentiable.mixed_stages import RelaxedStages
from imbnas.differentiable.relaxation import ArchitectureParameters, zero_one_loss
from imbnas.differentiable.search_definition import BilevelSearch
from imbnas.differentiable.strategies import Estimate, Start, make_strategy
from imbnas.differentiable.zeroth import descend
from imbnas.seeds import derive
from imbnas.spaces.relaxed import Relaxed
from imbnas.training.optimizer import SGD, make_optimizer
from imbnas.training.runtime import Runtime


class Descent:
    """The learner and the architecture parameters of a search, their optimisers, and the steps that are done.

    `losses` are the sums of the weights' and the architecture's losses since they were last set to zero, `estimates`
    counts those of the architecture.
    """

    def __init__(self, search: BilevelSearch, runtime: Runtime) -> None:
        self.search, self.runtime = search, runtime
        self.learner: Learner = runtime.place(search.learner)  # type: ignore[assignment]
        self.parameters = search.parameters.to(runtime.device)
        self.learner.train()
        self.optimizer = None if search.frozen else make_optimizer(self.learner, search.params.optimizer)
        self.adam = self._new_adam()
        self.strategy = make_strategy(
            Start(search.params, self.learner, self.parameters, self.optimizer, derive(search.seed, search.name))
        )
        self.frozen_from = search.params.learning_epochs
        """The epoch from which the architecture is constant."""
        self.done = self.estimates = 0
        self.losses = torch.zeros(2, device=runtime.device)

    def _new_adam(self) -> torch.optim.Adam:
        plan = self.search.params.architecture
        return torch.optim.Adam(
            self.parameters.parameters(), lr=plan.lr, betas=(plan.beta1, plan.beta2), weight_decay=plan.weight_decay
        )

    def begin_epoch(self, epoch: int) -> None:
        """Widen the search to kernel sizes and exits where that is due.

        Smaller kernels begin as the centre of the largest; they had no gradient until then, so that the optimiser, of
        which they are from the beginning, has zero momentum for them.
        """
        network, start = self.learner.network, self.search.params.switch
        if not isinstance(network, RelaxedStages) or self.parameters.widened or epoch < start:
            return
        self._widen(True)
        if start and not self.search.frozen:
            network.crop_kernels()

    def _widen(self, wide: bool) -> None:
        """Add the parameters of kernel sizes and exits, or take them away, with a new Adam and new twins."""
        if wide == self.parameters.widened or not self.parameters.layout.widens:
            return
        if wide:
            self.parameters.widen(derive(self.search.seed, self.search.name, "switch"))
        else:
            self.parameters.narrow()
        self.adam = self._new_adam()
        self.strategy.renew()

    def step(self, train: Sequence[Draw], valid: Sequence[Draw], epoch: int, rate: float, *, learns: bool) -> None:
        """Take one step of weights that learn, and one of the architecture where it `learns` and the strategy says so.

        `rate` is the weights' learning rate; `valid` may be empty at steps at which the strategy needs no rows.
        """
        levels = self._levels(train, valid, epoch, rate)
        if learns and self.strategy.one_level:
            self._one_step(train, epoch)
            self.done += 1
            return
        if learns:
            self._move(self.strategy.before(self.done, levels))
        else:
            self.strategy.rest()
        if self.optimizer is not None:
            self._weight_step(self.optimizer, train, epoch)
        if learns:
            self._move(self.strategy.after(self.done, levels, self._loss_of(train, epoch)))
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
            "estimates": self.estimates,
            "strategy": self.strategy.snapshot(),
            "frozen_from": self.frozen_from,
            "widened": self.parameters.widened,
        }

    def take(self, saved: Mapping[str, Any]) -> None:
        """Take over what `snapshot` returned; ValueError, KeyError and the like where it is not of this search."""
        self._widen(bool(saved.get("widened", False)))
        self.learner.load_state_dict(saved["learner"])
        self.parameters.load_state_dict(saved["parameters"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.adam.load_state_dict(saved["adam"])
        self.strategy.take(saved["strategy"])
        self.done, self.estimates = saved["step"], saved["estimates"]
        self.losses = saved["losses"].to(self.runtime.device)
        self.frozen_from = int(saved["frozen_from"])

    def setting(self, epoch: int, level: int = 0) -> Setting:
        """Return the loss function of a level in an epoch, and the share of each branch in it."""
        params, search = self.search.params, self.search
        mixing = search_schedules.mixing_factor(params.mixing, epoch, params.epochs, params.fixed)
        objective = search.outer if level and search.outer is not None else search.objective
        return Setting(objective(epoch), mixing)

    def loss(self, batch: Sequence[Draw], relaxed: Relaxed, setting: Setting, learner: Learner | None = None) -> Tensor:
        """Return the loss on a batch; its random draws are a function of the steps that are done.

        `learner` is the search's own, or a twin of it.
        """
        # Dropout and the like draw from the global generator: seeding it per step keeps them functions of the counter.
        torch.manual_seed(derive(self.search.seed, self.search.name, "global", self.done))
        with self.runtime.autocast():
            return (learner or self.learner).loss(batch, relaxed, setting)

    def relaxed(self, epoch: int, parameters: ArchitectureParameters | None = None) -> Relaxed:
        """Return the operations' weights in an epoch, the auxiliary skip connection's among them.

        Once the architecture is frozen they are those of the last epoch in which it learned.
        """
        params, last = self.search.params, min(epoch, self.frozen_from - 1)
        skip = search_schedules.skip_weight(params.collapse.skip, last, params.epochs)
        return (parameters or self.parameters)(skip, self.temperature(epoch))

    def judged(self, epoch: int) -> Relaxed:
        """Return the weights by which the search network is judged after an epoch: without the auxiliary skip."""
        relaxed: Relaxed = self.parameters(0.0, self.temperature(epoch))
        return relaxed

    def temperature(self, epoch: int) -> float:
        """Return sparsemax's temperature in an epoch, which is constant once the architecture is."""
        plan, last = self.search.params.temperature, min(epoch, self.frozen_from - 1)
        return search_schedules.temperature(plan.first, plan.factor, plan.every, last)

    def learns_in(self, epoch: int) -> bool:
        """Return whether the architecture is not frozen yet in an epoch."""
        return epoch < self.frozen_from

    def _levels(self, train: Sequence[Draw], valid: Sequence[Draw], epoch: int, rate: float) -> bilevel.Levels:
        """Return both levels at a step; `rate` is the weights' learning rate."""

        def valid_loss() -> Tensor:
            relaxed = self.relaxed(epoch)
            return self._with_terms(self.loss(valid, relaxed, self.setting(epoch, 1)), relaxed, epoch)

        return bilevel.Levels(
            train=lambda: self.loss(train, self.relaxed(epoch), self.setting(epoch)),
            valid=valid_loss,
            architecture=list(self.parameters.parameters()),
            optimizer=self.optimizer,
            rate=rate,
        )

    def _with_terms(self, loss: Tensor, relaxed: Relaxed, epoch: int) -> Tensor:
        """Return the architecture's loss with what it pays for weights between 0 and 1 and for its expected cost."""
        params, cost = self.search.params, self.search.cost
        if params.zero_one:
            loss = loss + params.zero_one * zero_one_loss(relaxed, params.zero_one_norm)
        if cost is None:
            return loss
        paid = cost(relaxed, epoch, self.temperature(epoch) if params.relaxation == "sparsemax" else 1.0)
        return loss if paid is None else loss + paid.to(loss)

    def _move(self, estimate: Estimate | None) -> None:
        """Move the architecture parameters by an estimate of their gradient, if there is one."""
        if estimate is None:
            return
        gradients, loss = estimate
        for parameter, gradient in zip(self.parameters.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()
        self.losses[1] += loss.float()
        self.estimates += 1

    def _one_step(self, batch: Sequence[Draw], epoch: int) -> None:
        """Move weights and architecture parameters by the gradient of one loss, each with its own optimiser."""
        params, relaxed = self.search.params, self.relaxed(epoch)
        loss = self.loss(batch, relaxed, self.setting(epoch))
        self.losses[0] += loss.detach().float()
        loss = self._with_terms(loss, relaxed, epoch)
        self.losses[1] += loss.detach().float()
        self.estimates += 1
        self.adam.zero_grad()
        descend(cast(SGD, self.optimizer), lambda: loss + self.strategy.penalty(relaxed), params.optimizer.clip)
        self.adam.step()

    def _loss_of(self, batch: Sequence[Draw], epoch: int) -> Callable[[nn.Module, nn.Module], Tensor]:
        """Return the weights' loss on a batch, for a learner and architecture parameters."""
        setting = self.setting(epoch)

        def loss(learner: nn.Module, parameters: nn.Module) -> Tensor:
            with torch.no_grad():
                relaxed = self.relaxed(epoch, cast(ArchitectureParameters, parameters)).detached()
            return self.loss(batch, relaxed, setting, cast(Learner, learner))

        return loss

    def _weight_step(self, optimizer: SGD, batch: Sequence[Draw], epoch: int) -> None:
        """Move the weights by the gradient of the loss at the architecture, perturbed where the parameters say so."""
        setting = self.setting(epoch)
        with torch.no_grad():
            relaxed = self.relaxed(epoch).detached()
        relaxed = self.perturbed(relaxed, batch, setting, epoch)
        loss = descend(optimizer, lambda: self.loss(batch, relaxed, setting), self.search.params.optimizer.clip)
        self.losses[0] += loss.float()

    def perturbed(self, relaxed: Relaxed, batch: Sequence[Draw], setting: Setting, epoch: int) -> Relaxed:
        """Return the operations' weights moved as the guard against collapse says, at random or against the loss."""
        guards = self.search.params.collapse
        if guards.perturbation == "none" or epoch >= self.frozen_from:
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
