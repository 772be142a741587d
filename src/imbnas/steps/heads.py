"""Heads that correct a trained one, or need no training: what the head stages of `adapt` and `retrain` share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.longtail.heads import choose_tau, tau_normalise
from imbnas.longtail.weights import check_counts
from imbnas.params.longtail import SamplerParams
from imbnas.params.recipe import Tau
from imbnas.progress import Log

INSTANCE = SamplerParams(name="instance")
"""How a head is trained that lws, tau-norm or logit-adjustment then corrects: the rows as they are."""


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
