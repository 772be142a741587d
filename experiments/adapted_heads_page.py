"""From what `adapted_heads.py` has measured to its page, and what the rule of decision 38 says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ablation_page import measured, shown
from ablation_statistics import AGREEMENT, FIRST, FIVE, LEVEL, MARGIN, Ranked, Results, places_of
from adapted_heads import CLAIMED, CROSS_ENTROPY, SCRATCH
from ranking import Ranking
from ranking_page import ceiling_text, in_order

from imbnas import page_record
from imbnas.files import read_json
from imbnas.longtail.student import Estimate
from imbnas.run.context import processor_model
from imbnas.run.graph import cost_details
from imbnas.search.proxies import PROXIES

if TYPE_CHECKING:
    from adapted_heads import Heads

Gains = dict[str, tuple[Estimate, float]]
NORMAL = 1.960
"""The normal quantile of a two-sided interval of 95 %."""
PAGE = """# Adapted heads beside their rivals: {name}, {condition}

`make adapted-heads` at commit {commit}, {processor}. A supernet is trained on CIFAR-100 for {supernet} epochs with fair
paths, {seeds} of them, and adapted to the long tail of CIFAR-10 by each way: heads and finetuning {head} epochs, from
scratch {scratch}. The truth are {cells} cells trained alone with {truths} seeds (`{name}.parquet`). The rule was
decided before: docs/decisions/0038.

## What the rule says

{verdict}

## Adaptations

tau is Kendall's with the truth; regret of the top 1 (5) is how far the cell with the highest score (the best of the
five highest) is below the best cell, in points. Intervals of 95 % cover supernets and cells. p is Holm's, over all
rivals. Seconds are means on the wall, on a machine that other programs may have shared; with the source, the
supernet's training is counted in full for each.

{table}
{ceiling}
"""


def verdict(gains: Gains, baselines: Gains, supernets: int, cells: int) -> str:
    """Return the verdict; gains are the claimed adaptation's, over each rival and over scores without a supernet."""
    low = {name: float(one.ends(LEVEL)[0]) for name, (one, _) in gains.items()}
    better = [name for name, (one, p) in gains.items() if float(one.value) < 0.0 and p < 1.0 - LEVEL]
    close = [name for name in gains if name != CROSS_ENTROPY and low[name] <= -MARGIN]
    if better:
        word, why = "refuted", f"better than it: {', '.join(better)}"
    elif low[CROSS_ENTROPY] > 0.0 and not close:
        word, why = "supported", f"better than cross-entropy, and none is better by {MARGIN}"
    else:
        missing = [f"better than {CROSS_ENTROPY}"] * (low[CROSS_ENTROPY] <= 0.0)
        missing += [f"not worse than {name} by {MARGIN}" for name in close]
        word, why = "open", f"not shown: {'; '.join(missing)}"
    pays = all(float(one.value) > 0.0 and p < 1.0 - LEVEL for one, p in baselines.values())
    lines = [f"That a re-weighted head is the best cheap adaptation is **{word}** ({why})."]
    lines += [
        "It pays: it ranks better than all that is free." if pays else "It is not shown to pay beside what is free."
    ]
    if word == "open":
        lines.append(enough([one for one, _ in gains.values()], supernets, cells))
    return "\n".join(f"- {line}" for line in lines)


def enough(gains: list[Estimate], supernets: int, cells: int) -> str:
    """Return how many supernets would shrink the widest interval to the margin, and cells where these limit it.

    The parts of its variance follow from Satterthwaite's degrees of freedom. That of the supernets falls with their
    number, that of the cells with the number of cells alone.
    """
    widest = max(gains, key=_half)
    of_supernets = float(widest.error**2) * math.sqrt((supernets - 1) / float(widest.freedom))
    of_cells = max(0.0, float(widest.error**2) - of_supernets)
    wanted = (MARGIN / NORMAL) ** 2
    said = f"The widest interval is ±{_half(widest):.2f}; "
    if of_cells < wanted:
        number = max(2, math.ceil(supernets * of_supernets / (wanted - of_cells)))
        return said + f"about {number} supernets make it ±{MARGIN}."
    number = max(supernets, math.ceil(supernets * 2.0 * of_supernets / wanted))
    return (
        f"{said}{cells} cells alone make it ±{NORMAL * math.sqrt(of_cells):.2f}, however many supernets there are. "
        f"About {math.ceil(cells * 2.0 * of_cells / wanted)} cells and {number} supernets make it ±{MARGIN}."
    )


def _half(one: Estimate) -> float:
    low, high = one.ends(LEVEL)
    return float(high - low) / 2.0


def write_heads(path: Path, heads: Heads, seeds: range) -> None:
    """Write the page."""
    table, condition = heads.table, heads.condition
    found, order, kept = in_order(table)
    truth, macs = found.scores(condition, "test").mean(axis=0)[order], found.costs("macs")[order]
    proxies = Ranking(table, condition, dict.fromkeys(("supernet", "head", "finetune", "scratch"), 1))
    free = {name: found.costs(name)[order][None] for name in ("macs", "params")}
    free |= {name: np.array([proxies.scores(name, seed) for seed in seeds])[:, kept] for name in PROXIES}
    every = measured(heads, list(heads.changes), seeds, kept)
    every |= {name: Ranked(scores, places_of(scores, macs)) for name, scores in free.items()}
    results = Results(heads.changes, every, truth)
    gains, baselines = (
        over(results, names) for names in ([name for name in heads.changes if name != CLAIMED], list(free))
    )
    params = heads.params(CLAIMED, 0)
    content = PAGE.format(
        name=table.name,
        condition=condition,
        commit=page_record.commit(),
        processor=processor_model(),
        supernet=params.supernet.epochs,
        head=params.adapt.head.epochs,
        scratch=heads.params(SCRATCH, 0).adapt.scratch.epochs,
        seeds=len(seeds),
        cells=len(truth),
        truths=len(found.seeds),
        verdict=verdict(gains, baselines, len(seeds), len(truth)),
        table=table_of(results, {**gains, **baselines}, {name: seconds(heads, name, seeds) for name in heads.changes}),
        ceiling=ceiling_text(found, condition),
    )
    own = {"condition": condition, "supernet": params.supernet.epochs, "head": params.adapt.head.epochs}
    own["scratch"] = heads.params(SCRATCH, 0).adapt.scratch.epochs
    scores = {name: results.ranked[name].scores.tolist() for name in heads.changes}
    figures = {"options": own, "scores": scores}
    page_record.write_page(path, content, "make adapted-heads", figures, [table.beside(".parquet")])


def over(results: Results, names: list[str]) -> Gains:
    """Return the claimed adaptation's tau minus that of each other one, corrected for their number."""
    found = results.family(names, AGREEMENT, CLAIMED)
    return {name: (Estimate(-one.value, one.error, one.freedom), p) for name, (one, p) in found.items()}


def table_of(results: Results, gains: Gains, spent: dict[str, tuple[float, float]]) -> str:
    """Return the table of all adaptations and of what needs no supernet."""
    titles = ["adaptation", AGREEMENT, "re-weighted minus it", "p", FIRST, FIVE, "seconds", "with the source's"]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for name in results.ranked:
        figures = [shown(results.estimate(results.statistic(name, figure))) for figure in (AGREEMENT, FIRST, FIVE)]
        gain = [shown(gains[name][0]), f"{gains[name][1]:.3f}"] if name in gains else ["", ""]
        times = [f"{one:.0f}" for one in spent[name]] if name in spent else ["", ""]
        lines.append("| " + " | ".join([name, figures[0], *gain, *figures[1:], *times]) + " |")
    return "\n".join(lines)


def seconds(heads: Heads, name: str, seeds: range) -> tuple[float, float]:
    """Return the mean seconds of an adaptation, without and with those of its supernet."""
    own: list[float] = []
    source: list[float] = []
    for seed in seeds:
        folders = heads.folders(name, seed)
        for step, spent in (("adapt", own), ("supernet", source)):
            record = read_json(cost_details(folders[step] / f"{step}-cost.json"), "the cost of a step")
            spent.append(float(record["steps"][step]["seconds"]))
    return float(np.mean(own)), float(np.mean(own) + np.mean(source))
