"""Writes the page of a truth table: how far its seeds agree, and what its rankings have to do with costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imbnas import page_record
from imbnas.longtail.metrics import Floats
from imbnas.truth.agreement import (
    Statistic,
    ceiling,
    disattenuated,
    figure,
    mean_tau_of_seeds,
    spread,
    tau,
    transfer_regret,
)
from imbnas.truth.whole_seeds import Whole

HEAD = """# What {cells} cells are worth, trained alone: {name}

`make table` made the table `{folder}/{name}.parquet`; its card, `{folder}/{name}.md`, says how. The same
command writes this page from the seeds that are complete: {seeds}. Scores are balanced accuracies on the test rows.
Intervals are percentiles of {level:.0f} % over a bootstrap of the cells; tau is Kendall's tau-b.
"""


def write_page(path: Path, name: str, folder: str, table: Whole, wanted: int) -> None:
    """Write the page; `wanted` is how many seeds the table shall have."""
    page_record.write_page(path, page(name, folder, table, wanted), "make table")


def page(name: str, folder: str, table: Whole, wanted: int) -> str:
    """Return the page."""
    from imbnas.truth.agreement import LEVEL

    count = len(table.seeds)
    seeds = f"{count} of {wanted}" if count < wanted else f"all {wanted}"
    head = HEAD.format(cells=len(table.architectures), name=name, folder=folder, seeds=seeds, level=100 * LEVEL)
    scores = {condition: table.scores(condition, "test") for condition in table.conditions}
    parts = [head, _levels(table, scores), _noise(scores), _costs(table, scores)]
    if len(scores) > 1:
        parts.append(_conditions(table, scores))
    return "\n".join(parts)


def _levels(table: Whole, scores: dict[str, Floats]) -> str:
    rows = []
    for condition, own in scores.items():
        means, groups = own.mean(axis=0), [table.scores(condition, group) for group in ("many", "medium", "few")]
        rows.append(
            [
                condition,
                *(f"{100 * value:.1f}" for value in (means.mean(), means.min(), means.max())),
                *("" if np.isnan(group).all() else f"{100 * np.nanmean(group):.1f}" for group in groups),
                table.architectures[int(means.argmax())],
            ]
        )
    head = ["condition", "mean %", "worst", "best", "many", "medium", "few", "best cell"]
    return (
        "## Scores\n\nMeans over the seeds; many, medium and few are groups of classes, the same in all conditions.\n\n"
        + _table(head, rows)
    )


def _noise(scores: dict[str, Floats]) -> str:
    """Return the section on the noise ceiling; with one seed there is none to be had."""
    title = "## Noise ceiling\n\n"
    count = len(next(iter(scores.values())))
    if count < 2:
        return (
            title
            + "How far a ranking can agree with these scores is told by how far seeds agree with each other, which\n"
            "needs two complete seeds. With one, a tau below cannot be told from a perfect ranking of noisy scores.\n"
        )
    rows = []
    for condition, own in scores.items():
        cells = np.arange(own.shape[1])
        parts = spread(own, cells)
        trust = parts.reliability(count)
        rows.append(
            [
                condition,
                figure(mean_tau_of_seeds(own), len(cells)).text(),
                f"{100 * parts.within:.2f}",
                f"{100 * parts.between:.2f}",
                _of(lambda places, own=own: spread(own, places).reliability(count), own),  # type: ignore[misc]
                f"{ceiling(trust):.2f}",
            ]
        )
    head = [
        "condition",
        "tau of two seeds",
        "sd of a training",
        "sd of cells",
        f"reliability of {count} seeds",
        "ceiling of tau",
    ]
    text = (
        "The standard deviations are in points: of trainings of one cell with different seeds, and of the cells' true\n"
        f"means. Reliability is the share of the variance of means over {count} seeds that is the cells' own. The\n"
        "ceiling is the tau that the true means themselves would have with these means if both were normal.\n\n"
    )
    return title + text + _table(head, rows)


def _costs(table: Whole, scores: dict[str, Floats]) -> str:
    rows = []
    for condition, own in scores.items():
        mean = own.mean(axis=0)
        rows.append([condition, *(_of(tau(table.costs(cost), mean), own) for cost in ("macs", "params"))])
    return "## Costs as a ranking\n\ntau of a free figure with the mean over the seeds.\n\n" + _table(
        ["condition", "MACs", "parameters"], rows
    )


def _conditions(table: Whole, scores: dict[str, Floats]) -> str:
    """Return the section on pairs of conditions."""
    several = len(table.seeds) > 1
    rows = []
    names = list(scores)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            a, b = scores[first], scores[second]
            adjusted = table.scores(second, "adjusted_test").mean(axis=0)
            cells = [f"{first}, {second}", _of(tau(a.mean(axis=0), b.mean(axis=0)), a)]
            cells += [_of(tau(a.mean(axis=0), adjusted), a)]
            cells += [_of(disattenuated(a, b), a), _of(transfer_regret(a, b), a, 100.0)] if several else ["", ""]
            rows.append(cells)
    text = (
        "tau of the means of two conditions, and of the first with the second after post-hoc logit adjustment, which\n"
        "takes the class shares out of the answers and leaves the features. The corrected correlation is Pearson's,\n"
        "divided by the root of both reliabilities: 1 where only noise keeps the rankings apart. Regret is what\n"
        "choosing by the first condition costs in points of the second, beside choosing by the second; seeds that\n"
        "choose do not judge.\n\n"
    )
    head = ["conditions", "tau", "tau, second adjusted", "corrected correlation", "regret in points"]
    return "## From one condition to another\n\n" + text + _table(head, rows)


def _of(statistic: Statistic, scores: Floats, factor: float = 1.0) -> str:
    return figure(statistic, scores.shape[1]).text(factor)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
