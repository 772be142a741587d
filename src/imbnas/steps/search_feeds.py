"""The training rows of a differentiable search of the chain: halves, samplers and batches of both levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from imbnas.data.order import InstanceSampler
from imbnas.differentiable.feeds import Feed, RedrawnFeed, blind_halves, class_order, stratified_halves
from imbnas.params.differentiable import DartsParams
from imbnas.params.longtail import SamplerParams
from imbnas.seeds import derive
from imbnas.steps.objective import make_sampler

REVERSED = SamplerParams(name="reversed")
Halves = tuple[np.ndarray, np.ndarray]


def make_feeds(
    params: DartsParams, labels: np.ndarray, draws: int, frozen: bool, seed: int
) -> tuple[Sequence[Feed], Sequence[Feed]]:
    """Return the batches of both levels for a learner of `draws` samplers, all rows having these labels.

    Where the weights are frozen the architecture has all rows, and where both learn together both have.
    """
    halves_of = _halves_of(params, labels, frozen, seed)
    own = {"same": None, "instance": SamplerParams(), "class-balanced": SamplerParams(name="class-balanced")}
    other = own[params.architecture.sampler]
    pair = [params.sampler, REVERSED] if draws == 2 else [params.sampler]
    levels = (pair, pair if other is None else [other])
    inner, outer = (
        [
            _feed(params, halves_of, level, labels, sampler, derive(seed, "search", "rows", f"{level}-{place}"))
            for place, sampler in enumerate(samplers)
            if len(halves_of(0)[level])
        ]
        for level, samplers in enumerate(levels)
    )
    return inner, outer


def joined_feeds(params: DartsParams, labels: np.ndarray, seed: int) -> list[Feed]:
    """Return the batches of all rows, on which the weights of a mixture learn once its architecture is frozen."""
    sampler = make_sampler(params.sampler, labels, derive(seed, "search", "rows", "joined"), params.epochs)
    return [Feed(np.arange(len(labels)), sampler, params.batch_size)]


def _halves_of(params: DartsParams, labels: np.ndarray, frozen: bool, seed: int) -> Callable[[int], Halves]:
    """Return what gives the rows of both levels in an epoch."""
    if frozen:
        return lambda epoch: (np.arange(0), np.arange(len(labels)))
    if params.optimization == "one-level":
        return lambda epoch: (np.arange(len(labels)), np.arange(len(labels)))

    def drawn(cut: int) -> Halves:
        if params.blind:
            return blind_halves(len(labels), params.share, cut)
        return stratified_halves(labels, params.share, cut)

    if params.split == "fixed":
        halves = drawn(derive(seed, "search", "halves"))
        return lambda epoch: halves

    # Those who do not look at labels keep the order of rows, too.
    ordered = np.sort if params.blind else partial(class_order, labels)

    @cache
    def redrawn(epoch: int) -> Halves:
        weights, architecture = drawn(derive(seed, "search", "halves", epoch))
        return ordered(weights), ordered(architecture)

    return redrawn


def _feed(
    params: DartsParams,
    halves_of: Callable[[int], Halves],
    level: int,
    labels: np.ndarray,
    sampler: SamplerParams,
    seed: int,
) -> Feed:
    rows = halves_of(0)[level]
    own = labels[rows]
    order = InstanceSampler(own, seed) if params.blind else make_sampler(sampler, own, seed, params.epochs)
    if params.split == "fixed":
        return Feed(rows, order, params.batch_size)
    return RedrawnFeed(rows, order, params.batch_size, lambda epoch: halves_of(epoch)[level])
