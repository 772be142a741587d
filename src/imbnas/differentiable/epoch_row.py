"""The architecture's part of an epoch's row: entropy, curvature, parameters, zeros."""

from __future__ import annotations

from typing import Any

import torch

from imbnas.differentiable import collapse
from imbnas.differentiable.descent import Descent
from imbnas.differentiable.feeding import Views
from imbnas.differentiable.learners import Draw
from imbnas.differentiable.relaxation import mean_entropy, sparsity
from imbnas.seeds import derive, stream
from imbnas.spaces.relaxed import Relaxed
from imbnas.training.batchnorm import batch_statistics

CURVATURE_STEPS = 30
Row = dict[str, Any]
"""One epoch of a trajectory: numbers, texts and lists of numbers."""


def architecture_row(descent: Descent, views: Views, relaxed: Relaxed, epoch: int) -> Row:
    """Return what an epoch's row says of the architecture, whose weights are `relaxed` after it.

    `views` feeds the architecture's level.
    """
    params = descent.search.params
    measured = params.collapse.eigenvalue_rows and descent.learns_in(epoch)
    return {
        "mixing": descent.setting(epoch).mixing if descent.learner.draws > 1 else None,
        "entropy": mean_entropy(relaxed, params.relaxation),
        "eigenvalue": _eigenvalue(descent, views, epoch) if measured else None,
        **{
            f"alpha_{kind}": values.detach().double().flatten().tolist()
            for kind, values in descent.parameters.operations.items()
        },
        **_widened(descent),
        **_sparse(descent, relaxed, epoch),
        **_expected(descent, relaxed),
    }


def _widened(descent: Descent) -> Row:
    """Return the parameters of kernel sizes and exits, where they are searched by now."""
    found = {"kernels": descent.parameters.kernels, "exits": descent.parameters.exits}
    return {
        f"{name}_{kind}": values.detach().double().flatten().tolist()
        for name, matrices in found.items()
        for kind, values in matrices.items()
    }


def _sparse(descent: Descent, relaxed: Relaxed, epoch: int) -> Row:
    """Return what sparsemax adds to an epoch's row."""
    if descent.search.params.relaxation != "sparsemax":
        return {}
    zeros, single = sparsity(relaxed)
    return {"temperature": descent.temperature(epoch), "zeros": zeros, "single": single}


def _expected(descent: Descent, relaxed: Relaxed) -> Row:
    """Return what a penalty on costs adds to an epoch's row."""
    cost = descent.search.cost
    return {} if cost is None else {"expected_cost": float(cost.expected(relaxed))}


def _eigenvalue(descent: Descent, views: Views, epoch: int) -> float:
    """Return the dominant eigenvalue of the loss on fixed rows of the architecture's half, without augmentation.

    They are drawn once and at random: rows lie class by class.
    """
    search = descent.search
    draws = []
    for number, feed in enumerate(search.feeds[1]):
        order = stream(search.seed, "eigenvalue", "rows", number).permutation(len(feed.rows))
        rows = feed.rows[order[: search.params.collapse.eigenvalue_rows]]
        images, labels = next(search.store.batches([rows]))
        draws.append((images, labels))
    if descent.learner.views > 1:
        batch = views.of(draws, descent.done)
    else:
        batch = [Draw(descent.runtime.lay_out(search.augment(images, None)), labels) for images, labels in draws]
    generator = torch.Generator().manual_seed(derive(search.seed, "eigenvalue"))
    with batch_statistics(descent.learner):
        loss = descent.loss(batch, descent.judged(epoch), descent.setting(epoch, 1))
        return collapse.dominant_eigenvalue(loss, list(descent.parameters.parameters()), generator, CURVATURE_STEPS)
