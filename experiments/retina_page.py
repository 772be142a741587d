"""From what `retina.py` has trained to its page."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import Any

from retina_arms import (
    CHOSEN,
    FIXED,
    FIXED_INHERITED,
    INHERITED,
    JOBS,
    LARGEST_MEANS,
    LARGEST_OF,
    MEANS,
    OWN,
    RANDOM,
    Arms,
)
from scipy.special import stdtrit
from trained_networks import Answered
from wins_page import LEVEL, gain, shown

from imbnas.longtail.shots import GROUPS, Rule, make_rule, shot_groups
from imbnas.longtail.student import Estimate, holm
from imbnas.page_record import commit
from imbnas.params import presets
from imbnas.params.config import Params
from imbnas.run.context import processor_model

POWER = 0.8
Pair = tuple[str, str]
QUESTIONS: dict[str, tuple[Pair, ...]] = {
    "the search earns its keep": ((CHOSEN, RANDOM), (CHOSEN, LARGEST_OF), (CHOSEN, FIXED)),
    "the search earns its keep with inherited weights": ((INHERITED, FIXED_INHERITED),),
    "the shipped supernet chooses better than one of the target's own rows": ((CHOSEN, OWN),),
    "the shipped supernet's weights are worth inheriting": ((INHERITED, CHOSEN),),
    "a training from scratch is worth it beside class means": ((CHOSEN, MEANS), (CHOSEN, LARGEST_MEANS)),
}
"""What the page answers, and the differences that have to be above 0."""
PAIRS = tuple(pair for pairs in QUESTIONS.values() for pair in pairs)

PAGE = """# RetinaMNIST with the supernet that ships

`make retina` at commit {commit}, {processor}, one thread, {seeds} seeds. RetinaMNIST (Yang et al. 2023) has {train:,}
training, {validation} validation and {test} test images of {classes} grades of retinopathy, on its published splits
and with its natural tail, {counts} training images in a class. The file of {stored} pixels is read and enlarged to
{side}, as the supernet's images were. The preset is `medmnist` with `supernet.reuse: {file}` (SHA-256
`{digest}`), whose space and image size the target has, and with {epochs} epochs in place of {preset} for each final
training, to stay below a core hour in all. A network from scratch loses more by that than one that inherits.

The chain adapts a new head, searches by {method} within {limit} of the largest network's MACs, and trains the chosen
network. Every network trains on the same {rows:,} rows, the training and validation images, by the same recipe, with
the seed of its chain; with inherited weights it begins with those of the adapted supernet, at a learning rate of
{low} in place of {high}. `{fixed}` has ShuffleNetV2's own block of 3x3 convolutions everywhere in the same space, and
was not searched for. Class means (NCM) on the shipped supernet's features, with BatchNorm statistics of the rows,
train nothing. `{own}` has the same space and size, but nothing is reused: the supernet learns from {share:.0f} % of the
training images for {learned} epochs, and the final training has these back.

**Rule, fixed before the first result.** Each answer below needs all its differences above 0 in balanced accuracy, with
p below 0.05 after Holm's correction for all {pairs} differences of this page. If one of them is below 0 in the same
sense the answer is no. Otherwise it is not shown. Kappa, the few-shot classes and seconds are described and decide
nothing (docs/decisions/0045).

## Networks

| network | MACs | balanced accuracy | kappa | few-shot classes | seconds |
|---|---:|---:|---:|---:|---:|
{networks}

Means over seeds. Balanced accuracy and the recall of the few-shot classes ({few}, by `evaluate.shots: {shots}`) on
the test rows are in percent; an answer that is always the same has {chance:.0f}. Kappa is Cohen's with quadratic
weights: the grades are ordered, but nothing here uses that, no loss and no choice. Seconds are wall time on one
thread, of a machine that other work may have shared: a network's training, which is an equal share of that of its
job, and the steps before it that it needs (supernet, adaptation, search).{elsewhere}

## Differences

| first | second | first minus second | p | shown with {power} |
|---|---|---:|---:|---:|
{differences}

Points of balanced accuracy, paired by seed; intervals are 95 %: Student's t over the seeds with the variance of the
test rows added. p is corrected by Holm's method. The last column is the power: the smallest true difference that
seeds and rows like these would show in {power} of cases, at the level that Holm's method asks of the first of {pairs}.
With {smallest} test rows in the smallest class it is large: what is not shown below may well be there.

## What the rule says

{verdict}
"""


@dataclass(frozen=True)
class Found:
    """A difference: its estimate, and p corrected for the page's family."""

    estimate: Estimate
    p: float

    @property
    def sign(self) -> int:
        """Return 1 or -1 where it is shown to be above or below 0, else 0."""
        value = float(self.estimate.value)
        return 0 if self.p >= 1.0 - LEVEL or value == 0.0 else 1 if value > 0.0 else -1

    @property
    def detectable(self) -> float:
        """Return the true difference that such seeds and rows would show, at the level that Holm asks of the first."""
        level = 1.0 - (1.0 - LEVEL) / (2.0 * len(PAIRS))
        freedom = float(self.estimate.freedom)
        return float((stdtrit(freedom, level) + stdtrit(freedom, POWER)) * self.estimate.error)


def differences(networks: dict[str, list[list[Answered]]]) -> dict[Pair, Found]:
    """Return the page's differences, one family."""
    found = {(first, second): gain(networks[first], networks[second]) for first, second in PAIRS}
    corrected = holm([float(one.p()) for one in found.values()])
    return {pair: Found(one, p) for (pair, one), p in zip(found.items(), corrected, strict=True)}


def verdict(found: dict[Pair, Found]) -> str:
    """Return what the rule says to each question."""
    lines = []
    for question, pairs in QUESTIONS.items():
        signs = [found[pair].sign for pair in pairs]
        answer = "yes" if min(signs) > 0 else "no" if min(signs) < 0 else "not shown"
        told = [f"{first} minus {second} {shown(found[first, second].estimate)}" for first, second in pairs]
        lines.append(f"- {question[0].upper()}{question[1:]}: **{answer}**. {'; '.join(told)}.")
    return "\n".join(lines)


def page(arms: Arms) -> tuple[str, dict[str, Any]]:
    """Return the page, and the figures of each seed that it is made of."""
    seeds = range(arms.setting.seeds)
    networks = {arm: [arms.networks(arm, seed) for seed in seeds] for arm in JOBS}
    seconds = {arm: [arms.seconds(arm, seed) for seed in seeds] for arm in JOBS}
    found = differences(networks)
    settings = {**_settings(arms), **_data(arms)}
    first = networks[CHOSEN][0][0]
    text = PAGE.format(
        **settings,
        commit=commit(),
        processor=processor_model(),
        pairs=len(PAIRS),
        power=f"{100 * POWER:.0f} %",
        test=len(first.labels),
        classes=len(first.recalls),
        chance=100 / len(first.recalls),
        smallest=min(round(float(one)) for one in _support(first)),
        networks="\n".join(_row(arm, own, mean(seconds[arm])) for arm, own in networks.items()),
        differences="\n".join(_difference(pair, one) for pair, one in found.items()),
        elsewhere=_elsewhere(arms.elsewhere()),
        verdict=verdict(found),
    )
    scores = {
        arm: {"balanced accuracy": [[one.score for one in seed] for seed in own], "seconds": seconds[arm]}
        for arm, own in networks.items()
    }
    cells = {arm: [[one.cell for one in seed] for seed in own] for arm, own in networks.items()}
    return text, {"seeds": scores, "cells": cells}


def _row(arm: str, networks: list[list[Answered]], seconds: float) -> str:
    every = [one for seed in networks for one in seed]
    few = [one.few for one in every if one.few is not None]
    cells = [arm, f"{mean(one.macs for one in every):,.0f}", f"{100 * mean(one.score for one in every):.2f}"]
    cells += [f"{mean(one.kappa for one in every):.3f}", f"{100 * mean(few):.2f}" if few else "", f"{seconds:.0f}"]
    return "| " + " | ".join(cells) + " |"


def _difference(pair: Pair, one: Found) -> str:
    return "| " + " | ".join([*pair, shown(one.estimate), f"{one.p:.3f}", f"{100 * one.detectable:.2f}"]) + " |"


def _settings(arms: Arms) -> dict[str, Any]:
    """Return the words of the page that are parameters."""
    params = arms.params()
    own = arms.params(arms.own_supernet)
    return {
        "seeds": arms.setting.seeds,
        "stored": params.target.size or "their own",
        "side": params.target.image_size,
        "file": params.supernet.reuse,
        "digest": (params.supernet.reuse_sha256 or "")[:16],
        "epochs": params.retrain.epochs,
        "preset": presets.params("medmnist").retrain.epochs,
        "method": params.search.method,
        "limit": params.search.max_macs,
        "low": params.retrain.finetune.optimizer.lr,
        "high": params.retrain.optimizer.lr,
        "fixed": FIXED,
        "own": OWN,
        "shots": params.evaluate.shots,
        "share": 100 * own.source.share,
        "learned": own.supernet.epochs,
    }


def _data(arms: Arms) -> dict[str, Any]:
    """Return the words of the page that the target's rows decide."""
    train, validation = arms.labels("target_train"), arms.labels("target_validation")
    counts = [int(one) for one in sorted(train.value_counts(), reverse=True)]
    groups = shot_groups(train.value_counts().sort_index().to_numpy(), _rule(arms.params()))
    few = [str(grade) for grade, group in enumerate(groups) if group == GROUPS[-1]]
    return {
        "train": len(train),
        "validation": len(validation),
        "rows": len(train) + len(validation),
        "counts": f"{counts[0]} to {counts[-1]}",
        "few": f"grades {', '.join(few)}",
    }


def _rule(params: Params) -> Rule:
    thresholds = params.evaluate.thresholds
    return make_rule(params.evaluate.shots, thresholds.many, thresholds.few)


def _elsewhere(seconds: float | None) -> str:
    if seconds is None:
        return " What the shipped supernet took is not counted."
    return f" The shipped supernet took {seconds:,.0f} seconds in its own project, once for all targets."


def _support(network: Answered) -> list[float]:
    return [float((network.labels == label).sum()) for label in sorted(set(network.labels.tolist()))]
