"""The second stage of the step `retrain`: the trained network's head anew, its backbone frozen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from imbnas.longtail.heads import NearestClassMean, make_head
from imbnas.longtail.losses import repeats
from imbnas.params.longtail import SamplerParams
from imbnas.params.losses import LossName
from imbnas.params.retrain import RetrainView
from imbnas.run.context import Context
from imbnas.seeds import derive
from imbnas.spaces.chain import Subnet
from imbnas.steps.heads import HEAD_STAGES, HeadStage, own_head
from imbnas.steps.mixing import make_mix
from imbnas.steps.objective import make_objective, make_sampler
from imbnas.steps.rows import Rows, make_augment, make_store
from imbnas.training.batchnorm import batchnorms
from imbnas.training.frozen import FrozenBackbone, ViewSampler, compute_features, feature_views
from imbnas.training.loop import Job, train
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

FEATURE_BATCH = 512
"""Rows in one forward pass of a network in evaluation mode."""


class SecondStage:
    """Trains or corrects the head of networks that were trained on the long-tailed rows."""

    def __init__(
        self, view: RetrainView, context: Context, runtime: Runtime, rows: Rows, validation: Rows | None
    ) -> None:
        """Take the training rows, and the rows on which tau-norm chooses its exponent."""
        self._view, self._context, self._runtime = view, context, runtime
        self._rows, self._validation = rows, validation

    def __call__(self, network: Subnet, tag: str) -> tuple[dict[str, Any], list[ResumeState]]:
        """Give a trained network its new head in place; return the head's description and the trainings' states.

        `tag` tells the states of several networks apart. In the mode `frozen` no parameter and no buffer of the
        backbone changes; `batch` leaves them alone too, and `update` moves BatchNorm's statistics only.
        """
        self._runtime.place(network).eval()
        stage = _Stage(self._view, self._context, self._runtime, self._rows, self._validation, network, tag)
        return HEAD_STAGES[self._view.retrain.head.name](stage), stage.states


class _Stage(HeadStage):
    """One trained network and the long-tailed rows."""

    def __init__(
        self,
        view: RetrainView,
        context: Context,
        runtime: Runtime,
        rows: Rows,
        validation: Rows | None,
        network: Subnet,
        tag: str,
    ) -> None:
        head, scale = view.retrain.head, view.retrain.classifier.scale
        super().__init__(network, head, head.loss, head.sampler, scale=scale, counts=rows.counts, log=context.log)
        self._view, self._context, self._runtime = view, context, runtime
        self._rows, self._validation, self._network, self._tag = rows, validation, network, tag

    def renew(self, described: dict[str, Any]) -> None:
        """Give the network a new head."""
        torch.manual_seed(derive(self._view.seed, "retrain-head", "weights"))
        self._network.head = make_head(described, _width(self._network), len(self.counts))
        self._runtime.place(self._network)

    def plain(self) -> nn.Linear:
        """Return the head with which the network was trained."""
        return own_head(self._network.head)

    def judges(self) -> tuple[Tensor, Tensor] | None:
        """Return features and labels of the validation rows, where they choose tau."""
        return None if self._validation is None else self._features(self._validation)

    def class_means(self) -> NearestClassMean:
        """Return the nearest-class-mean head of the training rows."""
        return NearestClassMean.fit(*self._features(self._rows), len(self.counts))

    def _features(self, rows: Rows) -> tuple[Tensor, Tensor]:
        store = make_store(rows, self._runtime, self._context)
        augment = make_augment(rows.split, None)
        return compute_features(self._network, store.ordered(FEATURE_BATCH), augment, self._runtime, None)

    def train(self, loss: LossName, sampler: SamplerParams, part: str = "") -> None:
        """Train the network's present head."""
        ending = f"head-{part}" if self.states else "head"
        name, network = f"retrain-{ending}", self._network
        context, runtime, view, head = self._context, self._runtime, self._view, self._view.retrain.head
        tag = f"{self._tag}-{ending}"
        state = ResumeState(context.state_path, tag, context.state_interval, context.note_cost, runtime.ranks)
        self.states.append(state)
        store = make_store(self._rows, runtime, context)
        augment = make_augment(self._rows.split, head.augment)
        rows = make_sampler(sampler, self._rows.labels, derive(view.seed, name, "rows"), head.epochs)
        objective = make_objective(
            loss,
            view.retrain.weighting.model_copy(update={"defer": 0.0}),
            view.retrain.losses,
            scale=view.retrain.classifier.scale,
            label_smoothing=head.label_smoothing,
            epochs=head.epochs,
            counts=self._rows.counts,
            device=runtime.device,
        )
        with state.held():
            if not head.epochs:
                return
            if head.batchnorm == "frozen":
                seed = derive(view.seed, name, "views")
                features = feature_views(network, store, augment, runtime, head.views, FEATURE_BATCH, seed)
                viewed = ViewSampler(rows, len(self._rows), max(1, head.views))
                network.head.requires_grad_(True)
                common = (lambda x, _: x, viewed, objective, view.seed)
                job = Job(name, network.head, head, features, *common, repeats=repeats(loss))
            else:
                mix = make_mix(head, self._rows.counts)
                frozen = FrozenBackbone(network, head.batchnorm)
                job = Job(name, frozen, head, store, augment, rows, objective, view.seed, mix=mix)
            train(job, runtime, state, context.log)
            state.pause()
        for layer in batchnorms(network):
            layer.track_running_stats = True
        network.eval()


def _width(network: Subnet) -> int:
    """Return the number of features that the network's present head takes."""
    weight = network.head.weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[1])
