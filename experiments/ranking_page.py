"""From the scores of `ranking.py` and a truth table to a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from adaptation_statistics import Statistic, agreement, difference, estimate, value_and_interval

from imbnas import page_record
from imbnas.longtail.student import holm
from imbnas.run.context import processor_model
from imbnas.truth.agreement import ceiling, mean_tau_of_seeds, spread
from imbnas.truth.agreement import figure as over_cells
from imbnas.truth.places import Table
from imbnas.truth.whole_seeds import Whole, whole

HEAD = """# Rankings beside the truth: {name}, {condition}

`make ranking` at commit {commit}, {processor}. The truth are {cells} cells of `{file}`, each trained alone with
{truths} seed(s); their balanced accuracy on the test rows is taken as exact. A supernet is trained on the table's
source for {supernet} epochs with uniform paths, {seeds} of them, and adapted to the long tail: head {head} epochs,
finetune {finetune}, scratch {scratch}. Supernets and proxies score on validation or training rows and never see a test
row.

tau is Kendall's tau-b with the truth. Regret of the top 1 (5) is how far the cell with the highest score (the best of
the five highest) is below the best cell, in points. Intervals are 95 %: Student's t over the supernets with the
variance of a bootstrap of the cells added; of what has no seed, over the cells alone. p tests the difference of tau to
`scratch`, supernet by supernet, corrected for the number of comparisons (Holm).

"""


def top(scores: np.ndarray, truth: np.ndarray, count: int) -> Statistic:
    """Return each seed's regret of the best among the `count` cells that score highest, in points."""

    def regret(chosen: np.ndarray) -> np.ndarray:
        own, found = truth[chosen], []
        for row in scores:
            places = np.argsort(-row[chosen], kind="stable")[:count]
            found.append(100.0 * (own.max() - own[places].max()))
        return np.array(found)

    return regret


def table_of(scores: dict[str, np.ndarray], truth: np.ndarray, base: str = "scratch") -> str:
    """Return the table of rankings; scores are (seeds, cells), or (1, cells) of what has no seed."""
    count = len(truth)
    paired = [name for name, own in scores.items() if name != base and len(own) == len(scores[base]) > 1]
    gains = {name: difference(agreement(scores[name], truth), agreement(scores[base], truth)) for name in paired}
    p = dict(zip(paired, holm([float(estimate(gains[name], count).p()) for name in paired]), strict=True))
    lines = [
        f"| score | tau | minus {base}'s | p | regret of the top 1 | of the top 5 | interval over |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, own in scores.items():
        gain = [value_and_interval(gains[name], count), f"{p[name]:.3f}"] if name in gains else ["", ""]
        cells = [value_and_interval(agreement(own, truth), count), *gain]
        cells += [value_and_interval(top(own, truth, k), count) for k in (1, 5)]
        cells.append("supernets and cells" if len(own) > 1 else "cells")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ceiling_text(table: Whole, condition: str) -> str:
    """Return what bounds a tau with this truth."""
    own = table.scores(condition, "test")
    if len(own) < 2:
        return (
            "\nNoise ceiling: unknown. The table has one complete seed, and a perfect ranking would not reach tau 1\n"
            "with its noisy scores; two seeds are needed to say what it would reach.\n"
        )
    cells = own.shape[1]
    trust = spread(own, np.arange(cells)).reliability(len(own))
    return (
        f"\nNoise ceiling: the true means would have tau {ceiling(trust):.2f} with this truth; two seeds of it\n"
        f"agree with tau {over_cells(mean_tau_of_seeds(own), cells).text()}.\n"
    )


def in_order(table: Table) -> tuple[Whole, list[int], list[int]]:
    """Return a table's whole seeds, the places in them of the cells in the description's order, and of these there."""
    found = whole(table.beside(".parquet"))
    kept = [place for place, cell in enumerate(table.spec.cells) if cell in found.architectures]
    return found, [found.architectures.index(table.spec.cells[place]) for place in kept], kept


def write_ranking(
    path: Path, table: Table, condition: str, scores: dict[str, np.ndarray], epochs: dict[str, int]
) -> None:
    """Write the page from supernets' and proxies' scores (seeds, cells), in the order of the table's cells."""
    found, order, kept = in_order(table)
    truth = found.scores(condition, "test").mean(axis=0)[order]
    everything: dict[str, Any] = {name: own[:, kept] for name, own in scores.items()}
    everything |= {name: found.costs(name)[order][None] for name in ("macs", "params")}
    for other in found.conditions:
        if other != condition:
            everything[f"trained alone, {other}"] = found.scores(other, "validation").mean(axis=0)[order][None]
    commit = page_record.commit()
    head = HEAD.format(
        name=table.name,
        file=table.beside(".parquet").name,
        condition=condition,
        commit=commit,
        processor=processor_model(),
        cells=len(truth),
        truths=len(found.seeds),
        seeds=len(next(iter(scores.values()))),
        **epochs,
    )
    page_record.write_page(path, (head + table_of(everything, truth) + ceiling_text(found, condition)), "make ranking")
