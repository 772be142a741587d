"""From the predictions of `latent_diffusion.py` to its page and its table of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imbnas import page_record
from imbnas.longtail.difference import Difference, corrected
from imbnas.longtail.intervals import differences
from imbnas.longtail.metrics import summarise
from imbnas.longtail.resampling import Resampled, resample
from imbnas.run.context import processor_model
from imbnas.seeds import derive

RIVALS = ("balanced softmax", "logit adjustment")
"""The baselines of the paired differences."""
RESAMPLES = 500
GROUPS = ("many", "medium", "few")


@dataclass(frozen=True)
class Measured:
    """A dataset's test labels, its training rows per class, and the predictions and seconds of each method's runs."""

    truth: np.ndarray
    counts: np.ndarray
    runs: Mapping[str, Sequence[tuple[np.ndarray, float]]]

    def resampled(self) -> dict[str, list[Resampled]]:
        """Return the scores of all runs on the same resamples of the test rows."""
        every = [guess for runs in self.runs.values() for guess, _ in runs]
        seed = derive(0, "latent-diffusion", "bootstrap")
        scored = iter(resample(self.truth, every, self.counts, "kang", resamples=RESAMPLES, seed=seed))
        return {method: [next(scored) for _ in runs] for method, runs in self.runs.items()}


def compared(scored: Mapping[str, Sequence[Resampled]], methods: Sequence[str], rival: str) -> dict[str, Difference]:
    """Return each method's difference in accuracy from a rival, seed by seed, p values corrected for their number.

    A rival without seeds is the same in all of them.
    """
    plain = []
    for method in methods:
        runs, others = scored[method], scored[rival]
        if len(others) < len(runs):
            others = list(others) * len(runs)
        plain.append(differences(runs, others)["accuracy"])
    return dict(zip(methods, corrected(plain), strict=True))


def recommended(found: Sequence[Mapping[str, Mapping[str, Difference]]], methods: Sequence[str]) -> list[str]:
    """Return the methods that are better than both rivals on all datasets: the rule of the decision."""
    return [
        method
        for method in methods
        if all(
            one[method].value > 0.0 and (one[method].p_holm or 0.0) < 0.05
            for dataset in found
            for one in dataset.values()
        )
    ]


HEAD = """# Heads on generated features

`make latent-diffusion GOLDEN=DIR` at commit {commit}, {processor}, made this page, and
[latent-diffusion.csv](latent-diffusion.csv) with a row per run. The features are those of [golden.md](golden.md):
two ResNet-32 that others trained and published (AlvinHan123/LDMLR@b38dc50) on CIFAR-10-LT and CIFAR-100-LT of ratio
100. Only heads and generators are trained here.

`gaussian`, `mixup` and `latent-diffusion` ([../long-tail.md](../long-tail.md)) begin with the published head and
train it on real and generated features, towards the profile `published` (LDMLR: a fifth of each class more, at
least five) or `balanced`. `real rows only` is the same training without generated features. `cRT` and `balanced
softmax` are new linear heads. Every trained head takes {steps:,} optimiser steps of {batch} rows (SGD, rate 0.1
falling to 0, no weight decay), {seeds} seeds, last epoch. The diffusion has {epochs} epochs, {timesteps} timesteps,
hidden layers of {width} times the features and a rate of {rate:g}. Nothing was chosen on test rows, and there are
no validation rows: tau is 1. Seconds are a run's on one processor core, the diffusion's training included.
"""
NOTE = """
LDMLR reports 76.26 % (CIFAR-10-LT) and 43.34 % (CIFAR-100-LT) after diffusion, and 82.77 % and 49.76 % with a label
shift on top, for the best epoch on the test rows.

Differences are points of accuracy, seed by seed, with intervals of 95 % (Student's t over the seeds, the variance
of the test rows added; of a single comparison). p is Holm's, over the six generated heads beside one rival on one
dataset. [Decision {decision}](../decisions/{file}) says what was to be concluded from what, before the first
result.
"""
DECISION = 28, "0028-when-generated-features-are-recommended.md"


def write(found: Mapping[str, Measured], methods: Sequence[str], made_by: Mapping[str, Any]) -> tuple[str, str]:
    """Return the page and the table of runs as CSV."""
    diffusion = made_by["diffusion"]
    commit = page_record.commit()
    lines = [
        HEAD.format(
            commit=commit,
            processor=processor_model(),
            seeds=made_by["seeds"],
            steps=made_by["steps"],
            batch=made_by["batch"],
            epochs=diffusion.epochs,
            timesteps=diffusion.timesteps,
            width=diffusion.width,
            rate=diffusion.lr,
        )
    ]
    rows = ["dataset,method,seed,accuracy,many,medium,few,seconds"]
    families = []
    for title, measured in found.items():
        scored = measured.resampled()
        lines += [f"## {title}", "", "| head | runs | accuracy | many | medium | few | seconds |"]
        lines += ["|---|---:|---:|---:|---:|---:|---:|"]
        for method, runs in measured.runs.items():
            lines.append(_row(measured, method))
            rows += _runs(title, measured, method, runs)
        family = {rival: compared(scored, methods, rival) for rival in RIVALS}
        families.append(family)
        lines += ["", f"| head | {' | '.join(f'minus {rival} | p' for rival in RIVALS)} |"]
        lines += [f"|---|{'---:|' * 2 * len(RIVALS)}"]
        lines += [f"| {method} | {' | '.join(_text(one[method]) for one in family.values())} |" for method in methods]
        lines.append("")
    number, file = DECISION
    page = (
        "\n".join(lines).rstrip("\n") + "\n" + NOTE.format(decision=number, file=file) + _conclusion(families, methods)
    )
    return page, "\n".join(rows) + "\n"


def _conclusion(families: Sequence[Mapping[str, Mapping[str, Difference]]], methods: Sequence[str]) -> str:
    better = recommended(families, methods)
    if better:
        return f"\nBy that rule, better than both rivals on both datasets: {'; '.join(better)}.\n"
    none = "none is better than both rivals on both datasets"
    return f"\nBy that rule no head on generated features is recommended: {none}.\n"


def _row(measured: Measured, method: str) -> str:
    runs = measured.runs[method]
    scores = [summarise(measured.truth, guess, measured.counts, "kang") for guess, _ in runs]
    cells = [method, str(len(runs)), f"{100 * np.mean([one['accuracy'] for one in scores]):.2f}"]
    for group in GROUPS:
        values = [one[group] for one in scores if one[group] is not None]
        cells.append(f"{100 * np.mean(values):.2f}" if values else "-")
    cells.append(f"{np.mean([seconds for _, seconds in runs]):.1f}")
    return f"| {' | '.join(cells)} |"


def _runs(title: str, measured: Measured, method: str, runs: Sequence[tuple[np.ndarray, float]]) -> list[str]:
    made = []
    for seed, (guess, seconds) in enumerate(runs):
        scores = summarise(measured.truth, guess, measured.counts, "kang")
        values = ["" if scores[name] is None else f"{scores[name]:.6f}" for name in ("accuracy", *GROUPS)]
        made.append(f'{title},"{method}",{seed},{",".join(values)},{seconds:.2f}')
    return made


def _text(one: Difference) -> str:
    p = one.p_holm or 0.0
    shown = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return f"{100 * one.value:+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}] | {shown}"
