"""From what `search_claims.py` has measured to its page, and what the rule of decision 39 says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from search_claims import DARTS, FAIR, HLRS, SAMPLERS, SELF_SUPERVISED, sampled
from seeds_methods import DRAWS, MACS, RANDOM, Tree
from seeds_page import LEVEL, Measured, points

from imbnas import page_record
from imbnas.longtail.student import Estimate, holm
from imbnas.run.context import processor_model
from imbnas.truth.places import Table

if TYPE_CHECKING:
    from seeds_results import Experiment

MARGIN = 0.01
"""Within it two searches are comparable: a point of balanced accuracy."""
POWER = 0.8
SUPPORTED, REFUTED, OPEN = "supported", "refuted", "open"

PAGE = """# Searches that claims compare: {name}, {condition}

`make search-claims` at commit {commit}, {processor}. Every method searches with {seeds} seeds, {search} epochs where it
descends; each of the {cells} distinct cells is trained alone with {trainings} seeds (`tables/{own}.parquet`).
`{random}` are {draws} uniform draws for each seed. The rule was decided before: docs/decisions/0039.

## What the rule says

{verdict}

## Searches

{table}

Balanced accuracy on the same {rows:,} test rows after the last epoch, in percent; differences are paired by the seed of
the search. ± is the half-width of a 95 % interval: Student's t over seeds, with the variance that the trainings of the
cells add. p is two-sided and not corrected; the last column is that of a true difference of 1 point or more (two
one-sided tests).

## Power

{power}
"""


def not_worse(one: Estimate) -> bool:
    """Say whether a difference is shown to be above -1 point, one-sided."""
    return float(one.ends(2.0 * LEVEL - 1.0)[0]) > -MARGIN


def comparable(one: Estimate) -> str:
    """Return the verdict of C3."""
    low, high = (float(end) for end in one.ends(LEVEL))
    if float(one.p_equivalent(MARGIN)) < 1.0 - LEVEL:
        return SUPPORTED
    return REFUTED if low > MARGIN or high < -MARGIN else OPEN


def harmed(found: dict[str, Estimate]) -> tuple[str, list[str]]:
    """Return the verdict of C4, and the samplers that are shown to harm."""
    p = holm([float(one.p()) for one in found.values()])
    shown = [name for (name, one), q in zip(found.items(), p, strict=True) if float(one.value) < 0 and q < 1.0 - LEVEL]
    if len(shown) == len(found):
        return SUPPORTED, shown
    return (REFUTED if all(not_worse(one) for one in found.values()) else OPEN), shown


def harmless(one: Estimate) -> str:
    """Return the verdict of C5."""
    if not_worse(one):
        return SUPPORTED
    return REFUTED if float(one.ends(2.0 * LEVEL - 1.0)[1]) < -MARGIN else OPEN


def verdicts(measured: Measured) -> dict[str, str]:
    """Return the verdict of each claim; all are open where DARTS cannot be told from random cells."""
    found = {
        "C3": comparable(measured.gain(HLRS, DARTS)),
        "C4": harmed({name: measured.gain(sampled(name), DARTS) for name in SAMPLERS})[0],
        "C5": harmless(measured.gain(SELF_SUPERVISED, FAIR)),
    }
    return found if tells(measured) else dict.fromkeys(found, OPEN)


def tells(measured: Measured) -> bool:
    """Say whether DARTS differs from random cells, without which the comparisons discriminate nothing."""
    return float(measured.gain(DARTS, RANDOM).p()) < 1.0 - LEVEL


def write_claims(path: Path, experiment: Experiment, own: Table, found: Tree) -> None:
    """Write the page."""
    measured = Measured(found["found"], found["rows"])
    from imbnas.data.stored import read_info

    content = PAGE.format(
        name=experiment.first.name,
        own=own.name,
        condition=experiment.condition,
        commit=page_record.commit(),
        processor=processor_model(),
        seeds=experiment.seeds,
        trainings=experiment.trainings,
        search=experiment.epochs.search,
        cells=len(own.spec.cells),
        random=RANDOM,
        draws=DRAWS,
        rows=read_info(own.files(experiment.condition)["target_test"]).rows,
        verdict=words(measured),
        table=table_of(measured),
        power=power(measured),
    )
    own_options = {"condition": experiment.condition, "search": experiment.epochs.search}
    own_options |= {"seeds": experiment.seeds, "trainings": experiment.trainings}
    cells = {name: [one["cells"] for one in searches] for name, searches in measured.found.items()}
    figures = {"verdicts": verdicts(measured), "options": own_options, "cells": cells}
    page_record.write_page(path, content, "make search-claims", figures, [own.beside(".parquet")])


def words(measured: Measured) -> str:
    """Return the verdicts with their figures."""
    said, (_, shown) = verdicts(measured), harmed({name: measured.gain(sampled(name), DARTS) for name in SAMPLERS})
    lines = [] if tells(measured) else ["DARTS is not told from random cells, so that no verdict is given but open."]
    lines += [
        f"C3, HLRS is comparable to DARTS: **{said['C3']}** ({points(measured.gain(HLRS, DARTS))} points).",
        f"C4, re-sampling harms DARTS: **{said['C4']}** (shown for: {', '.join(shown) or 'none'}).",
        f"C5, self-supervision does FairDARTS no harm: **{said['C5']}** "
        f"({points(measured.gain(SELF_SUPERVISED, FAIR))} points).",
    ]
    return "\n".join(f"- {line}" for line in lines)


def table_of(measured: Measured) -> str:
    """Return the table of searches, each beside what its claim compares it with."""
    against = {HLRS: DARTS, SELF_SUPERVISED: FAIR, **{sampled(name): DARTS for name in SAMPLERS}}
    titles = [
        "search",
        "cells",
        "balanced accuracy",
        "minus random",
        "minus macs",
        "minus",
        "points",
        "p",
        "p beyond 1",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for name, searches in measured.found.items():
        cells = [name, str(len({cell for one in searches for cell in one["cells"]}))]
        cells.append(points(measured.mean(name, "test")))
        cells += [points(measured.gain(name, other)) if name != other else "" for other in (RANDOM, MACS)]
        if name in against:
            one = measured.gain(name, against[name])
            cells += [against[name], points(one), f"{float(one.p()):.3f}", f"{float(one.p_equivalent(MARGIN)):.3f}"]
        else:
            cells += [""] * 4
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def power(measured: Measured) -> str:
    """Return how many seeds would suffice, by the variance of the paired differences that were found.

    Both of the two one-sided tests have to succeed, and Holm's method asks its strictest level of the first sampler.
    """
    one_sided = 1.0 - LEVEL
    either, of_three = 1.0 - (1.0 - POWER) / 2.0, one_sided / 2.0 / len(SAMPLERS)
    lines = []
    for name, other, what, tail, wanted in (
        (HLRS, DARTS, "to show that it is comparable, were it equal", one_sided, either),
        *((sampled(one), DARTS, "to show a harm of 1 point", of_three, POWER) for one in SAMPLERS),
        (SELF_SUPERVISED, FAIR, "to show that it does no harm, were it equal", one_sided, POWER),
    ):
        apart = measured.values(name, "test") - measured.values(other, "test")
        spread = float(np.std(apart, ddof=1))
        lines.append(
            f"- {name}: a paired difference has a standard deviation of {100 * spread:.2f} points; about "
            f"{seeds_enough(spread, tail, wanted)} seeds are enough {what} (power {POWER:g})."
        )
    return "\n".join(lines)


def seeds_enough(spread: float, tail: float, wanted: float) -> int:
    """Return the seeds that show a difference of the margin in a share `wanted` of cases, at the level `tail`.

    `spread` is the standard deviation of a paired difference. Quantiles are Student's: few seeds know their own spread
    badly.
    """
    from scipy.special import stdtrit

    seeds = 2
    while (stdtrit(seeds - 1, 1.0 - tail) + stdtrit(seeds - 1, wanted)) * spread / math.sqrt(seeds) > MARGIN:
        seeds += 1
    return seeds
