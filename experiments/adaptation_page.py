"""From the measurements of `adaptation.py` to its page."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from adaptation_place import Place
from adaptation_statistics import agreement, difference, estimate, figure, interval, paired

from imbnas import page_record
from imbnas.longtail.student import holm
from imbnas.run.graph import PATHS, cost_details
from imbnas.spaces.registry import make_space

Scores = dict[str, np.ndarray]
Seconds = dict[str, dict[str, float]]

HEAD = """# Adaptations: seconds, and rankings of subnets

`make adaptation` at commit {commit}, {processor}, one thread. Digits: {rows} long-tailed rows of the default preset,
and a supernet trained on the balanced source.

## Seconds on digits

We ran the step `adapt` with the preset's defaults in a separate process, and took the least of {rounds} round(s), or
the only one for finetune and scratch. `own` is the processor time without starting the interpreter and importing
torch, which are most of a step with so few rows. Wall time includes whatever else the machine did meanwhile.

"""
PRESET = """
## Seconds on a preset for real use

We ran the whole step again on `{preset}`, with its own space, recipes and images, once with {head} epochs for the
head and once with {scratch} for scratch. To let scratch end on one thread, there are few rows: from {largest} in the
largest class to one in the smallest, {size} in all, so an epoch is a single batch. The supernet has its initial
weights, and its source is the other half of the target's dataset; neither changes the seconds.

    make adaptation ADAPTATION='--seconds-on {preset} --data DIR --largest {largest}'

"""
RESTS = """
This is the step `adapt` alone. The head needs a supernet of the balanced source, which the presets train for about as
many steps as a supernet from scratch. A single long tail therefore saves nothing; each further one costs only the
head.
"""
RANKING = """
## Rankings on digits

Rankings can only be judged where subnets differ by more than the seeds of their trainings do. In the preset's own
space they do not: over 16 subnets, trained with 3 seeds each at commit 7095d1f, tau between two seeds was -0.13
[-0.30, 0.08]. We therefore judge rankings in another space on the same rows, {cells:,} cells of NAS-Bench-201: a stem
of 8 channels and one stage of two cells. There is no reduction block, because its 3x3 convolutions would make up for
a bad cell: with three stages of 8, 16 and 32 channels two seeds hardly agreed either (0.17, 12 cells, 3 seeds each).
We chose the space only by the agreement of seeds, before any supernet was trained in it.

{count} cells were drawn uniformly from those with a path from input to output. Each was trained from scratch on the
long tail with the retrain recipe, {seeds} seeds each; rankings are compared with the seeds' mean balanced accuracy on
the {test} test rows. Supernets score on the {validation} validation rows, as in the search. Each strategy has
{supernets} seeds, each with a source supernet of its own. The table shows the mean of their Kendall tau-b with the
trained subnets and 95 % intervals: Student's t on the strategy's seeds, with the variance of a bootstrap of the
subnets added. Differences are taken seed by seed and on the same resamples; their p values are corrected for three
comparisons (Holm). The trained subnets' mean scores are treated as exact.

"""
CACHED = """
## Rankings with cached features

This table is in the preset's own space. It shows tau between the scores that the supernets of two heads give to
{more} subnets, as the mean over pairs of seeds. Two seeds of one variant differ in the head's first weights, batches
and paths. Compare each figure with how well the uncached head agrees with itself.

"""


def page(options: argparse.Namespace, found: dict[str, Any]) -> str:
    """Return the page: how it was made, its tables, and what they say."""
    place: Place = found["place"]
    cost = json.loads(cost_details(place.root / PATHS["cost"]).read_text())
    commit = page_record.commit()
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
