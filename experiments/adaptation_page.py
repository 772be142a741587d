"""From the measurements of `adaptation.py` to its page."""

from __future__ import annotations

import argparse
import json
import subprocess
from typing import Any

import numpy as np
from adaptation_place import Place
from adaptation_statistics import agreement, difference, estimate, figure, interval, paired

from imbnas.longtail.student import holm
from imbnas.run.graph import PATHS, cost_details
from imbnas.spaces.registry import make_space

Scores = dict[str, np.ndarray]
Seconds = dict[str, dict[str, float]]

HEAD = """# Adaptations: seconds, and rankings of subnets

`make adaptation` at commit {commit}, {processor}, one thread. Digits: {rows} long-tailed rows of the default preset,
and a supernet trained on the balanced source.

## Seconds on digits

The step `adapt` at the preset's defaults in a process of its own, the least of {rounds} round(s), one for finetune and
scratch. `own` is the processor time without starting the interpreter and importing torch, which on rows this few are
most of a step. Wall time holds whatever else the machine did meanwhile.

"""
PRESET = """
## Seconds on a preset for real use

The whole step again, on `{preset}` with its own space, recipes and images, {head} epochs for the head and {scratch} for
scratch, once each. Only the rows are few, for scratch to end on one thread: {largest} of the largest class to one of
the smallest, {size} in all, which leaves one batch to an epoch. The supernet has its first weights, and its source is
the other half of the target's dataset: that changes no seconds.

    make adaptation ADAPTATION='--seconds-on {preset} --data DIR --largest {largest}'

"""
RESTS = """
That is the step `adapt` alone. The head rests on a supernet of the balanced source, which the presets train for about
as many steps as a supernet from scratch. For a single long tail nothing is saved; each further one costs the head
alone.
"""
RANKING = """
## Rankings on digits

Whether a ranking is good shows only where subnets differ by more than the seeds of their trainings. In the preset's own
space they do not: of 16 subnets that were trained with 3 seeds each at commit 7095d1f, tau between two seeds was -0.13
[-0.30, 0.08]. So rankings are judged in another space on the same rows, {cells:,} cells of NAS-Bench-201: a stem of 8
channels and one stage of two cells. No reduction block is between, whose 3x3 convolutions would do what a bad cell does
not: with three stages of 8, 16 and 32 channels two seeds hardly agreed either (0.17, 12 cells, 3 seeds each). The space
was chosen by the agreement of seeds alone, before a supernet was trained in it.

{count} cells were drawn uniformly from those that have a way from input to output. Each was trained from scratch on the
long tail by the retrain recipe, {seeds} seeds each; rankings are compared with the seeds' mean balanced accuracy on the
{test} test rows. Supernets score on the {validation} validation rows, as in the search. Each strategy has {supernets}
seeds, each with a source supernet of its own. In the table are the mean of their Kendall tau-b with the trained subnets
and 95 % intervals: Student's t on the strategy's seeds, with the variance of a bootstrap of the subnets added. A
difference is taken seed by seed and on the same resamples; its p value is corrected for three comparisons (Holm). The
trained subnets' mean scores are taken as they are.

"""
CACHED = """
## Rankings with cached features

In the preset's own space: tau between the scores of {more} subnets that the heads' supernets give, the mean over pairs
of seeds. Two seeds of one variant differ in the head's first weights, batches and paths: how well the uncached head
agrees with itself is what to compare with.

"""


def page(options: argparse.Namespace, found: dict[str, Any]) -> str:
    """Return the page: how it was made, its tables, and what they say."""
    place: Place = found["place"]
    cost = json.loads(cost_details(place.root / PATHS["cost"]).read_text())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    head = {"commit": commit, "processor": cost["steps"]["supernet"]["processor"], "rounds": options.rounds}
    truth, scores = found["truth"], found["scores"]
    filled = {
        "cells": make_space(found["cells"].params().space).size,
        "count": truth.shape[1],
        "seeds": len(truth),
        "supernets": options.supernets,
        "validation": found["held out"]["validation"],
        "test": found["held out"]["test"],
    }
    return "".join(
        [
            HEAD.format(**head, rows=found["rows"]),
            _seconds(found["seconds"]),
            _preset(found["preset"]),
            RANKING.format(**filled),
            _rankings(scores, truth),
            CACHED.format(more=found["wide"]["head"].shape[1]),
            _agreements(found["wide"]),
        ]
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _seconds(spent: Seconds) -> str:
    scratch = spent["scratch"]
    rows = []
    for name, clocks in spent.items():
        shares = [f"{clocks[clock] / scratch[clock]:.3f}" for clock in ("processor", "own")]
        rows.append(
            [name, f"{clocks['wall']:.1f}", f"{clocks['processor']:.1f}", shares[0], f"{clocks['own']:.2f}", shares[1]]
        )
    head = ["adaptation", "step, wall s", "step, processor s", "of scratch", "own, processor s", "of scratch"]
    return _table(head, rows)


def _preset(found: dict[str, Any] | None) -> str:
    """Return the section on a preset for real use, if it was measured."""
    if found is None:
        return ""
    spent, rows = found["seconds"], []
    for name, clocks in spent.items():
        cells = []
        for clock in ("wall", "processor"):
            cells += [f"{clocks[clock]:.1f}", f"{clocks[clock] / spent['scratch'][clock]:.3f}"]
        rows.append([name, found["epochs"][name], *cells])
    text = PRESET.format(**{key: found[key] for key in ("preset", "largest", "size")}, **found["epochs"])
    table = _table(["adaptation", "epochs", "wall s", "of scratch", "processor s", "of scratch"], rows)
    return text + table + RESTS


def _rankings(scores: Scores, truth: np.ndarray) -> str:
    """Return the table of tau with the subnets trained alone, and what it is worth."""
    mean, rows = truth.mean(axis=0), []
    count = len(mean)
    gains = {name: difference(agreement(own, mean), agreement(scores["scratch"], mean)) for name, own in scores.items()}
    others = [name for name in scores if name != "scratch"]
    made = {name: estimate(gains[name], count) for name in others}
    p = dict(zip(others, holm([float(made[name].p()) for name in others]), strict=True))
    for name, own in scores.items():
        gain = ["", ""] if name == "scratch" else [figure(gains[name], count), f"{p[name]:.3f}"]
        rows.append([name, figure(agreement(own, mean), count), *gain, f"{100 * own.mean():.1f} %"])
    itself = paired(truth, truth, False)
    text = (
        f"\nThe subnets trained alone score {100 * mean.min():.1f} to {100 * mean.max():.1f} %; tau between two seeds"
    )
    text += f" of their trainings is {figure(itself, count)}.\n"
    if interval(itself, count)[0] <= 0.0:
        text += "That does not exclude 0: no ranking is shown to be better than another by how it agrees with them.\n"
    loss = max(0.0, -float(made["head"].ends(0.9)[0]))
    text += f"By a one-sided bound of 95 % the head's tau is at most {loss:.2f} lower than that of scratch.\n"
    return _table(["adaptation", "tau with trained subnets", "minus scratch's", "p", "mean score"], rows) + text


def _agreements(wide: Scores) -> str:
    """Return the table of tau between heads with and without a cache."""
    count, rows = wide["head"].shape[1], []
    for name, scores in wide.items():
        same = "" if name == "head" else figure(paired(wide["head"], scores, True), count)
        other = figure(paired(wide["head"], scores, False), count)
        rows.append([name, same, other, figure(paired(scores, scores, False), count)])
    return _table(["adaptation", "with head, same seed", "with head, other seeds", "with itself, other seeds"], rows)
