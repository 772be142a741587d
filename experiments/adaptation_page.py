"""From the measurements of `adaptation.py` to its page."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
from adaptation import VARIANTS, Place, Scores, agreement, figure, interval, paired

HEAD = """# Adaptations on digits: seconds, and rankings of subnets

`make adaptation` at commit {commit}, {processor}, one thread. The default preset: {rows} long-tailed rows, a supernet
of {size:,} subnets trained on the balanced source. Everything is judged by balanced accuracy on the {validation}
validation rows; the test rows were not opened.

## Seconds

The step `adapt` at the preset's defaults in a process of its own, the least of {rounds} round(s), one for finetune and
scratch. `own` is the processor time without starting the interpreter and importing torch, which on rows this few are
most of a step. Wall time is that of a machine with other work and means little.

"""
RANKING = """
## Rankings

{count} subnets, evenly spread over the MACs with the smallest and the largest, were each trained from scratch on the
long tail by the retrain recipe, {seeds} seeds each. Kendall's tau-b between a supernet's scores and the mean of those,
with a 95 % bootstrap interval over the subnets. Heads are trained with 3 seeds on one supernet, and their tau is the
mean; the others with one.

"""
CACHED = """
The same ranking with and without a cache: tau between the scores of {more} subnets that the heads' supernets give, the
mean over pairs of seeds. Two seeds of one variant differ in the head's first weights, batches and paths: how well the
uncached head agrees with itself is what to compare with.

"""


def page(
    place: Place,
    options: argparse.Namespace,
    spent: dict[str, dict[str, float]],
    scores: Scores,
    wide: Scores,
    truth: np.ndarray,
) -> str:
    """Return the page: how it was made, its tables, and what they say."""
    import json

    from imbnas.spaces.registry import make_space
    from imbnas.steps.graph import PATHS, cost_details

    found = json.loads((place.root / PATHS["imbalance"]).read_text())
    cost = json.loads(cost_details(place.root / PATHS["cost"]).read_text())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    count, params = truth.shape[1], place.params()
    filled = {
        "commit": commit,
        "processor": cost["steps"]["supernet"]["processor"],
        "rows": sum(found["counts"]),
        "size": make_space(params.space).size,
        "validation": 10 * params.target.validation.per_class,
        "rounds": options.rounds,
        "count": count,
        "seeds": len(truth),
        "more": next(iter(wide.values())).shape[1],
    }
    return "".join(
        [
            HEAD.format(**filled),
            _seconds(spent),
            RANKING.format(**filled),
            _rankings(scores, truth),
            CACHED.format(**filled),
            _agreements(wide),
        ]
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _seconds(spent: dict[str, dict[str, float]]) -> str:
    scratch = spent["scratch"]
    rows = []
    for name, clocks in spent.items():
        shares = [f"{clocks[clock] / scratch[clock]:.3f}" for clock in ("processor", "own")]
        rows.append(
            [name, f"{clocks['wall']:.1f}", f"{clocks['processor']:.1f}", shares[0], f"{clocks['own']:.2f}", shares[1]]
        )
    head = ["adaptation", "step, wall s", "step, processor s", "of scratch", "own, processor s", "of scratch"]
    return _table(head, rows)


def _rankings(scores: Scores, truth: np.ndarray) -> str:
    mean = truth.mean(axis=0)
    rows = []
    for name in VARIANTS:
        own, other = agreement(scores[name], mean), agreement(scores["scratch"], mean)
        gain = "" if name == "scratch" else figure(_difference(own, other), len(mean))
        rows.append([name, figure(own, len(mean)), gain, _mean(scores[name])])
    text = _table(["adaptation", "tau with retrained subnets", "minus scratch's", "mean score"], rows)
    low, high = mean.min(), mean.max()
    text += f"\nThe retrained subnets score {100 * low:.1f} to {100 * high:.1f} %"
    if len(truth) > 1:
        itself = paired(truth, truth, False)
        text += f"; tau between two seeds of their trainings is {figure(itself, len(mean))}"
        if interval(itself, len(mean))[0] <= 0.0:
            text += ".\nThat does not exclude 0: these trainings do not tell the subnets apart, and no ranking is shown"
            text += " to be better than\nanother by how it agrees with them"
    return text + ".\n"


def _difference(
    first: Callable[[np.ndarray], float], second: Callable[[np.ndarray], float]
) -> Callable[[np.ndarray], float]:
    """Return the difference of two statistics of the same subnets."""
    return lambda chosen: first(chosen) - second(chosen)


def _agreements(wide: Scores) -> str:
    heads = [name for name in wide if name.startswith("head")]
    count = wide["head"].shape[1]
    rows = []
    for name in heads:
        same = "" if name == "head" else figure(paired(wide["head"], wide[name], True), count)
        other = figure(paired(wide["head"], wide[name], False), count)
        itself = figure(paired(wide[name], wide[name], False), count)
        rows.append([name, same, other, itself])
    return _table(["adaptation", "with head, same seed", "with head, other seeds", "with itself, other seeds"], rows)


def _mean(scores: np.ndarray) -> str:
    return f"{100 * scores.mean():.1f} %"
