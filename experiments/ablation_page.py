"""From what `ablation.py` has measured to its page: baselines, changes by family, and what the rule says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ablation_changes import DEFAULT, FAMILIES, IN_PLACE, SANDWICH, TOGETHER
from ablation_scores import PROPOSALS, Ablation
from ablation_statistics import (
    AGREEMENT,
    FIRST,
    FIVE,
    LEVEL,
    Ranked,
    Results,
    defined,
    one_training,
    places_of,
    rank_average,
    regret,
)
from adaptation_statistics import Statistic, agreement, difference
from ranking import Ranking
from ranking_page import ceiling_text, in_order

from imbnas import page_record
from imbnas.longtail.student import Estimate
from imbnas.run.context import processor_model
from imbnas.search.proxies import PROXIES
from imbnas.truth.whole_seeds import Whole

PAGE = """# Where the ranking is lost: {name}, {condition}

`make ablation` at commit {commit}, {processor}. The truth are {cells} cells of `tables/{name}.parquet`, each
trained alone with {truths} seed(s): mean balanced accuracy on the test rows. The default trains a supernet on the
table's source for {supernet} epochs with fair paths, adapts it by a new head for {head} epochs with {loss},
measures BatchNorm on {rows} rows, and takes the cell with the best balanced accuracy on {validation} validation rows.
Each change differs from it in one thing, and is paired with it by the seed of the supernet, {seeds} of them.

tau is Kendall's tau-b with the truth, 0 for scores that are all alike. Regret is how far the cell that is taken (the
best of the five first) is below the best cell, in points; the best of noisy figures is too high, so that no ranking
reaches 0. Where a search looks at some cells alone it is the mean over {proposals} searches per supernet; a mutant is
seldom one of the table's cells and a random one then takes its place, so that evolution's rows tell what looking at
few cells costs, not what breeding brings. Fewer validation rows are drawn anew for each supernet. Intervals
are 95 %: Student's t over the supernets with the variance of a bootstrap of the cells added; of what has no seed, over
the cells alone. p is corrected by Holm's method for the comparisons of a table's column. Time is wall time of
supernet, adaptation and scoring, relative to the default's. The rule was decided beforehand:
[decision 36](../decisions/0036-what-an-ablation-makes-a-default.md).

## Beside what needs no supernet

{baselines}
{ceiling}
## Where it is lost

{lost}

## One change at a time

{changes}

## What the rule says

{verdict}
{together}"""


def shown(one: Estimate) -> str:
    """Return an estimate with its interval."""
    low, high = one.ends(LEVEL)
    return f"{float(one.value):.2f} [{float(low):.2f}, {float(high):.2f}]"


def baselines(results: Results, rivals: list[str], others: dict[str, tuple[Statistic, ...]]) -> str:
    """Return the table of the default beside its rivals, and of what is described but not compared."""
    titles = ["ranking", AGREEMENT, "default minus it", "p", FIRST, FIVE]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    gains = margins(results, rivals)
    for name in (DEFAULT, *rivals):
        figures = [shown(results.estimate(results.statistic(name, figure))) for figure in (AGREEMENT, FIRST, FIVE)]
        gain = [shown(gains[name][0]), f"{gains[name][1]:.3f}"] if name in gains else ["", ""]
        lines.append("| " + " | ".join([name, figures[0], *gain, *figures[1:]]) + " |")
    for name, statistics in others.items():
        figures = [shown(results.estimate(one)) for one in statistics] + [""] * (3 - len(statistics))
        lines.append("| " + " | ".join([name, figures[0], "", "", *figures[1:]]) + " |")
    return "\n".join(lines)


def margins(results: Results, rivals: list[str]) -> dict[str, tuple[Estimate, float]]:
    """Return the default's tau minus each rival's, with p corrected for their number."""
    found = results.family(rivals, AGREEMENT)
    return {name: (Estimate(-one.value, one.error, one.freedom), p) for name, (one, p) in found.items()}


def change_tables(results: Results) -> str:
    """Return a table for each family of changes."""
    titles = ["change", AGREEMENT, "minus default", "p", FIRST, "minus default", "p", FIVE, "between supernets", "time"]
    parts = []
    for family in FAMILIES:
        names = [n for n, one in results.changes.items() if one.family == family and n in results.ranked]
        if names:
            lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
            lines += [_change_row(results, name) for name in (DEFAULT, *names)]
            parts.append(f"### {family.capitalize()}\n\n" + "\n".join(lines) + "\n")
    if {SANDWICH, IN_PLACE} <= results.ranked.keys():
        gain = results.family([IN_PLACE], AGREEMENT, SANDWICH)[IN_PLACE][0]
        parts.append(f"In-place distillation minus the same sandwich without it: tau {shown(gain)}.\n")
    return "\n".join(parts).rstrip()


def _change_row(results: Results, name: str) -> str:
    cells = [name]
    for figure in (AGREEMENT, FIRST):
        own = figure in results.figures(name)
        cells.append(shown(results.estimate(results.statistic(name, figure))) if own else "")
        gain = results.gains.get((name, figure))
        cells += [shown(gain[0]), f"{gain[1]:.3f}"] if gain else ["", ""]
    cells.append(shown(results.estimate(results.statistic(name, FIVE))))
    between = results.between_seeds(name)(np.arange(results.cells)).mean() if cells[1] else None
    cells += ["" if between is None else f"{between:.2f}", f"{results.ratio(name):.2f}"]
    return "| " + " | ".join(cells) + " |"


def lost(results: Results, halved: np.ndarray, alone: Statistic | None) -> str:
    """Return the table that tells noise from what the supernet has wrong; halved: tau of two halves of the rows."""
    own = results.ranked[DEFAULT].scores
    pooled = defined(agreement(own.mean(axis=0)[None], results.truth))
    rows = {
        "one supernet's scores, the truth": results.statistic(DEFAULT, AGREEMENT),
        "the mean score of all supernets, the truth": pooled,
        "two supernets, each other": results.between_seeds(DEFAULT),
        "two halves of the validation rows, one supernet": lambda chosen: halved,
    }
    if alone is not None:
        rows["one training of each cell, the other trainings"] = alone
    lines = ["| rankings of | tau |", "|---|---:|"]
    lines += [f"| {name} | {shown(results.estimate(one))} |" for name, one in rows.items()]
    return (
        "\n".join(lines) + "\n\n"
        "Noise of the validation rows keeps the halves apart, noise of a supernet's training two supernets. The mean\n"
        "of all supernets has little of both: what it lacks to the ceiling is what shared weights have wrong."
    )


def verdict(results: Results, rivals: list[str]) -> str:
    """Return what the rule says."""
    taken = results.taken()
    gains = margins(results, rivals)
    beaten = [name for name, (gain, p) in gains.items() if float(gain.value) > 0.0 and p < 1.0 - LEVEL]
    words = [f"{name} ({why})" for name, why in taken.items()]
    option = " ".join(f'"{name}"' for name in taken)
    return "\n".join(
        [
            f"- The default ranks better than: {', '.join(beaten) or 'none'} (of {', '.join(rivals)}).",
            f"- Changes that the rule takes: {', '.join(words) or 'none; the defaults stay'}.",
            *([f"- To be confirmed with new supernets: `--together {option}`."] if taken else []),
        ]
    )


def confirmation(results: Results, names: list[str], least: float) -> str:
    """Return the section on the changes that were tried as one with new supernets; `least` is what tau must gain."""
    name = TOGETHER
    figures = (AGREEMENT, FIRST)
    gains = {figure: results.estimate(_minus(results, name, figure)) for figure in figures}
    low, _ = gains[AGREEMENT].ends(LEVEL)
    said = "It becomes the default." if float(low) > least else "The defaults stay."
    lines = ["| changes | tau | minus default | regret of the top 1 | minus default |", "|---|---:|---:|---:|---:|"]
    for own, gain in ((DEFAULT, {}), (name, gains)):
        cells = [own]
        for figure in figures:
            cells.append(shown(results.estimate(results.statistic(own, figure))))
            cells.append(shown(gain[figure]) if figure in gain else "")
        lines.append("| " + " | ".join(cells) + " |")
    return f"\n## As one, with new supernets\n\nTogether: {', '.join(names)}.\n\n" + "\n".join(lines) + f"\n\n{said}\n"


def _minus(results: Results, name: str, figure: str) -> Statistic:
    return difference(results.statistic(name, figure), results.statistic(DEFAULT, figure))


def described(found: Whole, condition: str, order: list[int], scores: np.ndarray) -> dict[str, tuple[Statistic, ...]]:
    """Return what is described and not compared: trainings, chance, and the default's scores beside MACs."""
    truth, macs = found.scores(condition, "test")[:, order], found.costs("macs")[order]
    mean = truth.mean(axis=0)
    mixed = rank_average(scores, macs[None])
    places = places_of(mixed, macs)
    own: dict[str, tuple[Statistic, ...]] = {
        "default and macs, mean of the ranks": (
            defined(agreement(mixed, mean)),
            regret(places, mean, 1),
            regret(places, mean, 5),
        ),
        "any cell": (
            lambda chosen: np.zeros(1),
            lambda chosen: 100.0 * (mean[chosen].max() - mean[chosen].mean())[None],
        ),
    }
    if len(truth) > 1:
        own["one training of each cell"] = one_training(found.scores(condition, "validation")[:, order], truth)
    for other in found.conditions:
        if other != condition:
            row = found.scores(other, "validation").mean(axis=0)[order][None]
            own[f"trained alone, {other}"] = (defined(agreement(row, mean)), regret(places_of(row, macs), mean, 1))
    return own


def measured(ablation: Ablation, names: list[str], seeds: range, kept: list[int]) -> dict[str, Ranked]:
    """Return what changes come to with some seeds, of the cells that have a truth."""
    found = {}
    for name in names:
        one = Ranked.of([ablation.outcome(name, seed) for seed in seeds])
        found[name] = Ranked(one.scores[:, kept], one.places[..., kept], one.seconds)
    return found


def write_page(path: Path, ablation: Ablation, seeds: range, joined: list[str], anew: range) -> None:
    """Write the page; `joined` are the changes that were tried as one, with the seeds `anew`."""
    table, condition = ablation.table, ablation.condition
    found, order, kept = in_order(table)
    truth, macs = found.scores(condition, "test").mean(axis=0)[order], found.costs("macs")[order]
    names = [name for name in ablation.changes if name != TOGETHER]
    proxies = Ranking(table, condition, dict.fromkeys(("supernet", "head", "finetune", "scratch"), 1))
    rivals = {name: found.costs(name)[order][None] for name in ("macs", "params")}
    rivals |= {name: np.array([proxies.scores(name, seed) for seed in seeds])[:, kept] for name in PROXIES}
    every = measured(ablation, names, seeds, kept)
    every |= {name: Ranked(scores, places_of(scores, macs)) for name, scores in rivals.items()}
    results = Results(ablation.changes, every, truth)
    again = Results(ablation.changes, measured(ablation, [DEFAULT, TOGETHER], anew, kept), truth) if joined else None
    others = described(found, condition, order, every[DEFAULT].scores)
    halved = np.array([ablation.halved(DEFAULT, seed) for seed in seeds])
    params = ablation.params(DEFAULT, 0)
    commit = page_record.commit()
    content = PAGE.format(
        name=table.name,
        condition=condition,
        commit=commit,
        processor=processor_model(),
        cells=len(truth),
        truths=len(found.seeds),
        supernet=params.supernet.epochs,
        head=params.adapt.head.epochs,
        loss=params.adapt.loss,
        rows=params.search.calibration.rows,
        validation=len(ablation.labels),
        seeds=len(seeds),
        proposals=PROPOSALS,
        baselines=baselines(results, list(rivals), others),
        ceiling=ceiling_text(found, condition),
        lost=lost(results, halved, others.get("one training of each cell", (None,))[0]),
        changes=change_tables(results),
        verdict=verdict(results, list(rivals)),
        together="" if again is None else confirmation(again, joined, results.least(joined)),
    )
    page_record.write_page(path, content, "make ablation")
