"""The second stage of the step `retrain`: the trained network's head anew, its backbone frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from imbnas.longtail.heads import LINEAR, NearestClassMean, make_head
from imbnas.longtail.losses import capturable
from imbnas.params.longtail import SamplerParams
from imbnas.params.loss_options import LossName
from imbnas.params.retrain import RetrainParams
from imbnas.seeds import derive
from imbnas.spaces.networks import Subnet
from imbnas.steps.head_stages import HEAD_STAGES, HeadStage, own_head
from imbnas.steps.objective import make_objective, make_sampler
from imbnas.steps.retrain_generated import GENERATORS, SEED, Enlarged, Real, generate
from imbnas.steps.rows import Rows
from imbnas.steps.workbench import TrainingStep
from imbnas.training.batchnorm import batchnorms
from imbnas.training.definition import Objective, Training
from imbnas.training.frozen import FeatureStore, FrozenBackbone, ViewSampler, compute_features, feature_views
from imbnas.training.state import ResumeState
from imbnas.training.turns import Trainings

FEATURE_BATCH = 512
"""Rows in one forward pass of a network in evaluation mode."""


class SecondStage(HeadStage):
    """One trained network on the workbench.

    In the mode `frozen` no parameter and no buffer of the backbone changes; `batch` leaves them alone too, and `update`
    moves BatchNorm's statistics only. `validation` are the rows on which tau-norm chooses its exponent; `tag` tells the
    states of several networks apart.
    """

    def __init__(
        self, step: TrainingStep, retrain: RetrainParams, network: Subnet, validation: Rows | None, tag: str
    ) -> None:
        head, scale, context = retrain.head, retrain.classifier.scale, step.context
        super().__init__(network, head, head.loss, head.sampler, scale=scale, counts=step.rows.counts, log=context.log)
        self._step, self._retrain, self._network = step, retrain, network
        self._validation, self._tag = validation, tag
        step.runtime.place(network).eval()

    def renew(self, described: dict[str, Any]) -> None:
        """Give the network a new head."""
        torch.manual_seed(derive(self._step.seed, "retrain-head", "weights"))
        self._network.head = make_head(described, self._step.space.subnet_features, len(self.counts))
        self._step.runtime.place(self._network)

    def plain(self) -> Trainings[nn.Linear]:
        """Return the head with which the network was trained."""
        yield from ()  # it is trained already
        return own_head(self._network.head)

    def judges(self) -> tuple[Tensor, Tensor] | None:
        """Return features and labels of the validation rows, where they choose tau."""
        return None if self._validation is None else self._features(self._validation)

    def class_means(self) -> NearestClassMean:
        """Return the nearest-class-mean head of the training rows."""
        return NearestClassMean.fit(*self._features(self._step.rows), len(self.counts))

    def _features(self, rows: Rows) -> tuple[Tensor, Tensor]:
        step = self._step
        batches = step.store(rows).ordered(FEATURE_BATCH)
        return compute_features(self._network, batches, step.augment(None, rows), step.runtime, None)

    def train(self, loss: LossName, sampler: SamplerParams, part: str = "") -> Trainings[None]:
        """Train the network's present head."""
        ending = f"head-{part}" if self.states else "head"
        name, network, head = f"retrain-{ending}", self._network, self._retrain.head
        state = self._state(part if self.states else "")
        if not head.epochs:
            return
        if head.batchnorm == "frozen":
            training = self._on_features(name, loss, sampler)
        else:
            training = self._on_images(name, loss, sampler)
        yield self._step.trainer(training, state).turns()
        for layer in batchnorms(network):
            layer.track_running_stats = True
        network.eval()

    def _objective(self, loss: LossName, counts: list[int] | None = None) -> Objective:
        """Return the loss of the head's training on classes of these sizes, with its weights from the beginning."""
        weighting = self._retrain.weighting.model_copy(update={"defer": 0.0})
        section = self._retrain.model_copy(update={"loss": loss, "weighting": weighting})
        return make_objective(section, self._retrain.head, counts or self.counts, self._step.runtime.device)

    def _on_features(self, name: str, loss: LossName, sampler: SamplerParams) -> Training:
        step, head, network = self._step, self._retrain.head, self._network
        rows = make_sampler(sampler, step.rows.labels, derive(step.seed, name, "rows"), head.epochs)
        network.head.requires_grad_(True)
        return Training(
            name=name,
            model=network.head,
            recipe=head,
            store=self._views(name),
            augment=lambda x, _: x,
            sampler=ViewSampler(rows, len(step.rows), max(1, head.views)),
            objective=self._objective(loss),
            seed=step.seed,
            capturable=capturable(loss),
        )

    def _views(self, name: str) -> FeatureStore:
        """Return the features of the training rows, in as many augmented passes as the head's training takes."""
        step, head = self._step, self._retrain.head
        seed, augment = derive(step.seed, name, "views"), step.augment(head.augment)
        return feature_views(self._network, step.store(), augment, step.runtime, head.views, FEATURE_BATCH, seed)

    def train_enlarged(self) -> Trainings[None]:
        """Go on training the network's present head, on the features of the training rows and generated ones."""
        step, head, network, name = self._step, self._retrain.head, self._network, SEED
        if not head.epochs:
            return
        features = self._views(name)
        real = Real(features.features, features.labels, max(1, head.views))

        def train(training: Training) -> None:
            step.trainer(training, self._state("diffusion")).fit()

        made, numbers = generate(head, real, self.counts, step.seed, train, self.log)
        enlarged = Enlarged(real, made, len(self.counts), derive(step.seed, name, "rows"))
        network.head.requires_grad_(True)
        training = Training(
            name=name,
            model=network.head,
            recipe=head,
            store=enlarged.store,
            augment=lambda x, _: x,
            sampler=enlarged,
            objective=self._objective(head.loss, [n + int(more) for n, more in zip(self.counts, numbers, strict=True)]),
            mix=enlarged.decode if enlarged.paired else None,
            seed=step.seed,
            capturable=capturable(head.loss) and not enlarged.paired,
        )
        yield step.trainer(training, self._state("")).turns()
        network.eval()

    def _state(self, part: str) -> ResumeState:
        """Return the state of the head's training, or of another `part` of making it."""
        state = self._step.state(f"{self._tag}-head{part and '-'}{part}")
        self.states.append(state)
        return state

    def _on_images(self, name: str, loss: LossName, sampler: SamplerParams) -> Training:
        step, head = self._step, self._retrain.head
        return Training(
            name=name,
            model=FrozenBackbone(self._network, head.batchnorm),
            recipe=head,
            store=step.store(),
            augment=step.augment(head.augment),
            sampler=make_sampler(sampler, step.rows.labels, derive(step.seed, name, "rows"), head.epochs),
            objective=self._objective(loss),
            mix=step.mix(head),
            seed=step.seed,
        )


def _enlarged(stage: SecondStage) -> Trainings[dict[str, Any]]:
    """Go on training the trained head on real and generated features (Han et al. 2024)."""
    own_head(stage.network.head)
    yield from stage.train_enlarged()
    return dict(LINEAR)


SECOND_STAGES: dict[str, Callable[[SecondStage], Trainings[dict[str, Any]]]] = {
    **HEAD_STAGES,
    **dict.fromkeys(GENERATORS, _enlarged),
}
"""Every head in `imbnas.params.head_options.HEADS`: gives the network its new head and returns its description."""
