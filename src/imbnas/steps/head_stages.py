"""The heads on a frozen backbone: how each is made, for the head stages of both `adapt` and `retrain`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.longtail.heads import LINEAR, NearestClassMean, ScaledHead, choose_tau, tau_normalise
from imbnas.longtail.weights import check_counts
from imbnas.params.head_options import HeadRecipeParams
from imbnas.params.longtail import SamplerParams
from imbnas.params.loss_options import LossName
from imbnas.params.recipe import Tau
from imbnas.progress import Log
from imbnas.spaces.networks import Subnet, Supernet
from imbnas.steps.objective import describe_head
from imbnas.training.state import ResumeState
from imbnas.training.turns import Trainings

INSTANCE = SamplerParams(name="instance")
"""How a head is trained that lws, tau-norm or logit-adjustment then corrects: the rows as they are."""


class HeadStage(ABC):
    """A network whose backbone is frozen, and what a head needs to be made on it: trainings and features.

    Args:
        network: the network; its `head` is replaced in place.
        head: the head's parameters.
        loss: the section's own loss.
        sampler: the section's own sampler.
        scale: factor of a cosine head.
        counts: training rows of each class.
        log: says what was chosen.
    """

    def __init__(
        self,
        network: Supernet | Subnet,
        head: HeadRecipeParams,
        loss: LossName,
        sampler: SamplerParams,
        *,
        scale: float,
        counts: list[int],
        log: Log,
    ) -> None:
        self.network, self.head, self.loss, self.sampler = network, head, loss, sampler
        self.scale, self.counts, self.log = scale, counts, log
        self.states: list[ResumeState] = []

    @abstractmethod
    def renew(self, described: dict[str, Any]) -> None:
        """Give the network a new head of this description, see `longtail.heads.make_head`."""

    @abstractmethod
    def plain(self) -> Trainings[nn.Linear]:
        """Return the linear head that plain training has given the network."""

    @abstractmethod
    def train(self, loss: LossName, sampler: SamplerParams, part: str = "") -> Trainings[None]:
        """Train the network's present head and keep the training's state; `part` names a second training."""

    @abstractmethod
    def judges(self) -> tuple[Tensor, Tensor] | None:
        """Return features (N, F) and labels (N,) of the validation rows, None where nothing is chosen on them."""

    @abstractmethod
    def class_means(self) -> NearestClassMean:
        """Return the nearest-class-mean head of the training rows."""


def _own(stage: HeadStage) -> Trainings[dict[str, Any]]:
    """Train a new head with the section's loss and sampler."""
    described = describe_head(stage.head.name, stage.scale)
    stage.renew(described)
    yield from stage.train(stage.loss, stage.sampler)
    return described


def _crt(stage: HeadStage) -> Trainings[dict[str, Any]]:
    """Train a new linear head on class-aware batches (Kang et al. 2020)."""
    stage.renew(dict(LINEAR))
    yield from stage.train("ce", class_aware(stage.sampler))
    return dict(LINEAR)


def _lws(stage: HeadStage) -> Trainings[dict[str, Any]]:
    """Train the scales of a trained head's logits on class-aware batches (Kang et al. 2020)."""
    scaled = ScaledHead((yield from stage.plain()))
    stage.network.head = scaled
    yield from stage.train("ce", class_aware(stage.sampler), "scales")
    stage.network.head = scaled.linear()
    return dict(LINEAR)


def _tau_norm(stage: HeadStage) -> Trainings[dict[str, Any]]:
    """Normalise a trained head's weights (Kang et al. 2020)."""
    plain = yield from stage.plain()
    stage.network.head = normalised(plain, stage.head.tau, stage.judges(), stage.log)
    return dict(LINEAR)


def _ncm(stage: HeadStage) -> Trainings[dict[str, Any]]:
    """Take the class means of the features (Kang et al. 2020)."""
    yield from ()  # nothing is trained
    stage.network.head = stage.class_means()
    return {"name": "ncm"}


def _logit_adjustment(stage: HeadStage) -> Trainings[dict[str, Any]]:
    """Take the log-priors from a trained head's biases (Menon et al. 2021)."""
    plain = yield from stage.plain()
    stage.network.head = prior_adjusted(plain, stage.counts, stage.head.adjustment)
    return dict(LINEAR)


HEAD_STAGES: dict[str, Callable[[HeadStage], Trainings[dict[str, Any]]]] = {
    "linear": _own,
    "cosine": _own,
    "crt": _crt,
    "lws": _lws,
    "tau-norm": _tau_norm,
    "ncm": _ncm,
    "logit-adjustment": _logit_adjustment,
}
"""Every head in `imbnas.params.head_options.HEADS` but those that generate features: gives the network its new head and
returns its description."""


def class_aware(params: SamplerParams) -> SamplerParams:
    """Return the sampler of crt and lws: class-aware from the beginning, with the section's round and length."""
    return params.model_copy(update={"name": "class-aware", "defer": 0.0})


def own_head(head: nn.Module) -> nn.Linear:
    """Return a head that must be linear; the parameters have been checked for that."""
    if not isinstance(head, nn.Linear):
        raise TypeError(f"the head is {type(head).__name__}, expected a linear one")
    return head


def normalised(head: nn.Linear, tau: Tau, judges: tuple[Tensor, Tensor] | None, log: Log) -> nn.Linear:
    """Return the tau-normalised head (Kang et al. 2020), its bias zero.

    With tau `auto` the exponent is chosen on `judges`, validation features (N, F) and labels (N,). Raises UserError for
    one that overflows.
    """
    if tau == "auto":
        if judges is None:
            raise ValueError("tau is auto without validation features")
        exponent = choose_tau(head, *judges)
        log(f"tau-norm: tau {exponent:g} has the best balanced accuracy on the validation rows")
    else:
        exponent = tau
    found = tau_normalise(head, exponent)
    if not bool(found.weight.isfinite().all()):
        raise UserError(f"head.tau: {exponent:g} makes weights that are not finite, expected a smaller one")
    found.bias = nn.Parameter(torch.zeros_like(found.weight[:, 0]))
    return found


@torch.no_grad()
def prior_adjusted(head: nn.Linear, counts: list[int], factor: float) -> nn.Linear:
    """Return the head with factor x log(n_k / N) taken from its biases: post-hoc logit adjustment (Menon et al. 2021).

    The network's logits are then those that `longtail.heads.posthoc_adjustment` gives.
    """
    values = check_counts(counts)
    prior = torch.as_tensor(factor * np.log(values / values.sum()), dtype=head.weight.dtype, device=head.weight.device)
    head.bias.sub_(prior)
    return head
