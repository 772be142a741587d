"""The training rows of a differentiable search of the chain: halves, samplers and batches of both levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imbnas.data.order import InstanceSampler
from imbnas.differentiable.feeds import Feed, blind_halves, stratified_halves
from imbnas.params.differentiable import DartsParams
from imbnas.params.longtail import SamplerParams
from imbnas.seeds import derive
from imbnas.steps.objective import make_sampler

REVERSED = SamplerParams(name="reversed")


def make_feeds(
    params: DartsParams, labels: np.ndarray, draws: int, frozen: bool, seed: int
) -> tuple[Sequence[Feed], Sequence[Feed]]:
    """Return the batches of both levels for a learner of `draws` samplers, all rows having these labels.

    Where the weights are frozen the architecture has all rows.
    """
    cut = derive(seed, "search", "halves")
    if frozen:
        halves = (np.arange(0), np.arange(len(labels)))
    elif params.blind:
        halves = blind_halves(len(labels), params.share, cut)
    else:
        halves = stratified_halves(labels, params.share, cut)
    own = {"same": None, "instance": SamplerParams(), "class-balanced": SamplerParams(name="class-balanced")}
    other = own[params.architecture.sampler]
    pair = [params.sampler, REVERSED] if draws == 2 else [params.sampler]
    levels = (pair, pair if other is None else [other])
    inner, outer = (
        [
            _feed(params, rows, labels[rows], sampler, derive(seed, "search", "rows", f"{level}-{place}"))
            for place, sampler in enumerate(samplers)
            if len(rows)
        ]
        for level, (rows, samplers) in enumerate(zip(halves, levels, strict=True))
    )
    return inner, outer


def _feed(params: DartsParams, rows: np.ndarray, labels: np.ndarray, sampler: SamplerParams, seed: int) -> Feed:
    if params.blind:
        return Feed(rows, InstanceSampler(labels, seed), params.batch_size)
    return Feed(rows, make_sampler(sampler, labels, seed, params.epochs), params.batch_size)
