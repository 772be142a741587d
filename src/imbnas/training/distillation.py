"""Knowledge distillation: losses that follow the logits of another network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from imbnas.training.definition import Loss, Objective, Taught


@dataclass(frozen=True)
class Distilled:
    """A loss beside the divergence from a teacher (Hinton et al. 2015): (1 - w) L + w T^2 KL(p_teacher || p_student).

    Both distributions are softmax(logits / T); the divergence is a mean over the batch. Equal ones are one key, so that
    recorded steps are played back over the epochs.
    """

    loss: Loss
    weight: float
    temperature: float

    def __call__(self, logits: Tensor, target: Taught) -> Tensor:
        """Return the loss of logits (N, C) for a target that holds the teacher's logits (N, C)."""
        follow = self.weight * self.temperature**2 * divergence(logits, target.logits, self.temperature)
        # A loss that has no share is not computed: infinity times 0 is not 0.
        return follow if self.weight == 1.0 else (1.0 - self.weight) * self.loss(logits, target.labels) + follow


@dataclass(frozen=True)
class InPlace:
    """The loss of a supernet whose largest path teaches the others (Yu and Huang 2019, universally slimmable networks).

    The teacher has the loss of the labels, all others the cross-entropy with its probabilities alone, as in BigNAS.
    """

    loss: Loss

    def __call__(self, logits: Tensor, target: Any) -> Tensor:
        """Return the loss of logits (N, C); a target that holds the teacher's logits (N, C) is a pupil's."""
        return soft_cross_entropy(logits, target.logits) if isinstance(target, Taught) else self.loss(logits, target)


def distilled(objective: Objective, weight: float, temperature: float) -> Objective:
    """Return an objective's losses beside the divergence from a teacher."""
    return lambda epoch: Distilled(objective(epoch), weight, temperature)


def in_place(objective: Objective) -> Objective:
    """Return an objective's losses for the largest path, and for the others the cross-entropy with its answers."""
    return lambda epoch: InPlace(objective(epoch))


def divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(teacher / T) || softmax(logits / T)), a mean over the batch (N, C)."""
    own, other = (F.log_softmax(one / temperature, dim=1) for one in (logits, teacher))
    return F.kl_div(own, other, reduction="batchmean", log_target=True)


def soft_cross_entropy(logits: Tensor, teacher: Tensor) -> Tensor:
    """Return -sum_c softmax(teacher)_c log softmax(logits)_c, a mean over the batch (N, C)."""
    return -(F.softmax(teacher, dim=1) * F.log_softmax(logits, dim=1)).sum(1).mean()
