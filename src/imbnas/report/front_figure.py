"""The figure of the accuracy-cost front: score against each cost."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from imbnas.cost_names import ALWAYS, named_in, spoken
from imbnas.report.style import INK, LINE, NETWORKS, drawing

ACCURACIES = ("balanced_accuracy", "accuracy", "worst_class")
"""Scores that are shares of the validation rows."""


def draw_front(path: Path, candidates: pd.DataFrame, front: pd.DataFrame, objective: str) -> None:
    """Draw all candidates and those on the front, with the standard errors of their scores, beside each cost.

    `candidates` holds score, macs, params and the columns of other costs that are known, `front` also standard_error
    and chosen; `objective` names the score. Points of the front that one panel shows below others are ahead of these in
    another panel.
    """
    others = named_in(front.columns)
    costs = (*ALWAYS, *others)
    with drawing(path, 4.5 * len(costs), 4.2) as figure:
        beaten = spoken(["score", "operations", "parameters", *(name.words for name in others)])
        figure.suptitle(f"Front: candidates that no other one beats in {beaten} together")
        panels = figure.subplots(1, len(costs), sharey=True)
        for axes, name in zip(panels, costs, strict=True):
            axes.set_xlabel(name.axis)
            if front.empty:
                continue
            axes.grid()
            _points(axes, candidates, front, name.column)
        if front.empty:
            note = "No candidates were compared."
            figure.text(0.5, 0.5, note, ha="center", va="center", color=INK)
            return
        name_score(panels[0], objective)
        panels[-1].legend(loc="best")


def name_score(axes: Axes, objective: str) -> None:
    """Name the axis of a score: accuracies in percent of the validation rows, others as they are."""
    if objective in ACCURACIES:
        axes.set_ylabel(f"{objective.replace('_', ' ')} on the validation rows")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        axes.set_ylabel(f"score by {objective}")


def _points(axes: Axes, candidates: pd.DataFrame, front: pd.DataFrame, cost: str) -> None:
    scored = candidates[candidates["score"].notna()]
    axes.scatter(scored[cost], scored["score"], s=16, color=LINE, linewidths=0, zorder=1, label="all candidates")
    errors = front["standard_error"].fillna(0.0)
    axes.errorbar(
        front[cost],
        front["score"],
        yerr=errors if errors.any() else None,
        fmt="o",
        markersize=4.5,
        color=INK,
        elinewidth=0.8,
        zorder=2,
        label="front, ± one standard error" if errors.any() else "front",
    )
    chosen = front[front["chosen"]]
    if not chosen.empty:
        axes.plot(
            chosen[cost],
            chosen["score"],
            "*",
            markersize=16,
            color=NETWORKS["final"],
            markeredgecolor="white",
            zorder=3,
            label="chosen",
        )
