"""The second stage of the step `retrain`: the trained network's head anew, its backbone frozen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from imbnas.longtail.heads import LINEAR, NearestClassMean, ScaledHead, make_head
from imbnas.longtail.losses import repeats
from imbnas.params.longtail import LossName, SamplerParams
from imbnas.params.recipe import TRAINED_HEADS
from imbnas.params.retrain import RetrainView
from imbnas.run.context import Context
from imbnas.seeds import derive
from imbnas.spaces.chain import Subnet
from imbnas.steps.heads import class_aware, normalised, own_head, prior_adjusted
from imbnas.steps.mixing import make_mix
from imbnas.steps.objective import describe_head, make_objective, make_sampler
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
        head, view = self._view.retrain.head, self._view
        described = dict(LINEAR)
        self._runtime.place(network).eval()
        if head.name in ("linear", "cosine", "crt"):
            described = describe_head(head.name, view.retrain.classifier.scale)
            torch.manual_seed(derive(view.seed, "retrain-head", "weights"))
            network.head = make_head(described, _width(network), len(self._rows.counts))
            self._runtime.place(network)
            own = head.name in TRAINED_HEADS
            loss: LossName = head.loss if own else "ce"
            sampler = head.sampler if own else class_aware(head.sampler)
            return described, [self._train(network, loss, sampler, tag)]
        if head.name == "lws":
            scaled = ScaledHead(own_head(network.head))
            network.head = scaled
            state = self._train(network, "ce", class_aware(head.sampler), tag)
            network.head = scaled.linear()
            return described, [state]
        if head.name == "ncm":
            features, labels = self._features(network, self._rows)
            network.head = NearestClassMean.fit(features, labels, len(self._rows.counts))
            return {"name": "ncm"}, []
        if head.name == "tau-norm":
            judges = None if self._validation is None else self._features(network, self._validation)
            network.head = normalised(own_head(network.head), head.tau, judges, self._context.log)
        else:
            network.head = prior_adjusted(own_head(network.head), self._rows.counts, view.retrain.head.adjustment)
        return described, []

    def _features(self, network: Subnet, rows: Rows) -> tuple[Tensor, Tensor]:
        store = make_store(rows, self._runtime, self._context)
        augment = make_augment(rows.split, None)
        return compute_features(network, store.ordered(FEATURE_BATCH), augment, self._runtime, None)

    def _train(self, network: Subnet, loss: LossName, sampler: SamplerParams, tag: str) -> ResumeState:
        """Train the network's present head and return the training's state."""
        context, runtime, view, head = self._context, self._runtime, self._view, self._view.retrain.head
        state = ResumeState(context.state_path, f"{tag}-head", context.state_interval, context.note_cost, runtime.ranks)
        store = make_store(self._rows, runtime, context)
        augment = make_augment(self._rows.split, head.augment)
        rows = make_sampler(sampler, self._rows.labels, derive(view.seed, "retrain-head", "rows"), head.epochs)
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
                return state
            if head.batchnorm == "frozen":
                seed = derive(view.seed, "retrain-head", "views")
                features = feature_views(network, store, augment, runtime, head.views, FEATURE_BATCH, seed)
                viewed = ViewSampler(rows, len(self._rows), max(1, head.views))
                network.head.requires_grad_(True)
                common = (lambda x, _: x, viewed, objective, view.seed)
                job = Job("retrain-head", network.head, head, features, *common, repeats=repeats(loss))
            else:
                mix = make_mix(head, self._rows.counts)
                frozen = FrozenBackbone(network, head.batchnorm)
                job = Job("retrain-head", frozen, head, store, augment, rows, objective, view.seed, mix=mix)
            train(job, runtime, state, context.log)
            state.pause()
        for layer in batchnorms(network):
            layer.track_running_stats = True
        network.eval()
        return state


def _width(network: Subnet) -> int:
    """Return the number of features that the network's present head takes."""
    weight = network.head.weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[1])
