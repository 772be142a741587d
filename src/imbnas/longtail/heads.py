"""Classifier heads on features, and corrections of a trained one: cosine, LWS, tau-norm, class means, log-priors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.longtail.etf import EtfHead
from imbnas.longtail.weights import check_counts

TAU_GRID: tuple[float, ...] = tuple(round(0.1 * i, 1) for i in range(21))
"""The exponents that Kang et al. 2020 try on the validation rows: 0, 0.1, ... 2."""
LINEAR: Mapping[str, Any] = {"name": "linear"}
"""The description of a plain linear head, which is meant where a network's file does not describe its head."""


def make_head(description: object, features: int, classes: int) -> nn.Module:
    """Return the head that a network's file describes, a module from features (N, F) to scores (N, C).

    `{"name": "linear"}` is `linear_head`, `{"name": "cosine", "scale": s}` a `CosineHead`, the same with `etf` an
    `EtfHead`, and `{"name": "ncm"}` an empty `NearestClassMean`. LWS and tau-normalisation end in a linear head, and
    so do the heads that generate features. First weights come from torch's global generator.

    Raises:
        UserError: for anything else.
    """
    given = dict(description) if isinstance(description, Mapping) else {}
    name = given.pop("name", None)
    if name == "linear" and not given:
        return linear_head(features, classes)
    if name == "ncm" and not given:
        return NearestClassMean(features, classes)
    scale = given.pop("scale", None)
    if name in ("cosine", "etf") and not given and type(scale) in (int, float) and 0.0 < scale < math.inf:
        kind = CosineHead if name == "cosine" else EtfHead
        return kind(features, classes, float(scale))
    raise UserError(
        f"head: found {description!r}, expected the name linear, cosine or etf (with a scale above 0), or ncm"
    )


def linear_head(features: int, classes: int) -> nn.Linear:
    """Return a newly initialised linear head: weights normal with deviation 0.01 (torch's generator), biases 0.

    Retraining it on frozen features is cRT (Kang et al. 2020), with a class-balanced sampler or a re-weighted loss.
    """
    head = nn.Linear(features, classes)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head


class CosineHead(nn.Module):
    """Cosines of features and class weights times `scale`, without bias; LDAM wants scale 1 (Cao et al. 2019).

    Args:
        features: width of the features.
        classes: number of classes.
        scale: factor of the cosines.
    """

    def __init__(self, features: int, classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, C) in [-scale, scale] of features (B, F)."""
        return self.scale * F.linear(F.normalize(features), F.normalize(self.weight))


class ScaledHead(nn.Module):
    """Learnable weight scaling, LWS (Kang et al. 2020): s_k (w_k x + b_k) where only the C scales s are trained.

    Args:
        head: the trained linear head; its weights and biases are copied and stay fixed.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", head.weight.detach().clone())
        self.register_buffer("bias", _bias(head).detach().clone())
        self.scales = nn.Parameter(torch.ones_like(self.bias))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, C) of features (B, F)."""
        return self.scales * F.linear(features, self.weight, self.bias)

    def linear(self) -> nn.Linear:
        """Return the linear head with the scales multiplied in."""
        scales = self.scales.detach()
        return _linear(self.weight * scales[:, None], self.bias * scales)


def tau_normalise(head: nn.Linear, tau: float) -> nn.Linear:
    """Return a linear head of weights `w_k / |w_k|^tau` without bias (Kang et al. 2020); tau 1 gives unit rows.

    tau 0 leaves the weights as they are; the bias is dropped all the same. A row of zeros stays zero.
    """
    weight = head.weight.detach()
    norms = weight.norm(dim=1, keepdim=True)
    norms = torch.where(norms > 0, norms, 1.0)
    return _linear(weight / norms**tau, None)


def choose_tau(head: nn.Linear, features: Tensor, labels: Tensor, grid: tuple[float, ...] = TAU_GRID) -> float:
    """Return the tau of the grid with the best balanced accuracy on validation features (N, F) and labels (N,).

    The first of equal ones is taken. The rows must not be those of the test split.

    Raises:
        UserError: for no rows.
    """
    if len(labels) == 0:
        raise UserError("choosing tau: found no validation rows, expected at least one")
    support = torch.bincount(labels, minlength=head.out_features)
    present = support > 0
    best, best_score = grid[0], -1.0
    for tau in grid:
        hit = tau_normalise(head, tau)(features).argmax(dim=1) == labels
        hits = torch.bincount(labels[hit], minlength=head.out_features)
        score = float((hits[present].double() / support[present]).mean())
        if score > best_score:
            best, best_score = tau, score
    return best


class NearestClassMean(nn.Module):
    """Nearest class mean, Kang et al.'s `cl2n`: minus the squared distance of centred unit features to class means.

    Its state are two buffers, `mean` (F,) and `centroids` (C, F); it has no parameters. A new one is empty, to load a
    state into; `fit` makes one from training rows.

    Args:
        features: width F of the features.
        classes: number of classes C.
    """

    mean: Tensor
    centroids: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("centroids", torch.zeros(classes, features))

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, classes: int) -> Self:
        """Return the classifier of training features (N, F) with their classes (N,), in the features' precision.

        The features must come from the network in evaluation mode and the test-time preprocessing.

        Raises:
            UserError: for a class without rows.
        """
        support = torch.bincount(labels, minlength=classes)
        check_counts(support.cpu().numpy())
        mean = features.mean(dim=0)
        sums = features.new_zeros(classes, features.shape[1])
        sums.index_add_(0, labels, F.normalize(features - mean))
        head = cls(features.shape[1], classes)
        head.mean, head.centroids = mean, sums / support[:, None]
        return head

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (B, C) of features (B, F), at most 0 but for rounding; the largest is the nearest class."""
        unit = F.normalize(features - self.mean)
        squares = unit.square().sum(dim=1, keepdim=True) + self.centroids.square().sum(dim=1)
        return 2.0 * F.linear(unit, self.centroids) - squares


def posthoc_adjustment(logits: Tensor, counts: ArrayLike, tau: float = 1.0) -> Tensor:
    """Return logits (B, C) - tau log(n_k / N): post-hoc logit adjustment (Menon et al. 2021), tau 0 changes nothing.

    For a model trained with plain cross-entropy only: the logit-adjusted loss has taken the prior out already.

    Raises:
        UserError: for a class without rows.
    """
    values = check_counts(counts)
    offsets = torch.as_tensor(tau * np.log(values / values.sum()), dtype=logits.dtype, device=logits.device)
    return logits - offsets


def _bias(head: nn.Linear) -> Tensor:
    return head.weight.new_zeros(head.out_features) if head.bias is None else head.bias


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer that holds copies of the given parameters."""
    head = nn.utils.skip_init(
        nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device, dtype=weight.dtype
    )
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.copy_(weight)
        if bias is not None:
            head.bias.copy_(bias)
    return head
