"""The figure of the search: score against cost of every evaluated architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from imbnas.network_names import LARGEST, kind
from imbnas.report.front_figure import name_score
from imbnas.report.style import INK, MUTED, NETWORKS, drawing

_TIME = LinearSegmentedColormap.from_list("imbnas-time", ["#dfe3e8", "#a9b2bc", "#68737f", "#333c46"])


@dataclass(frozen=True)
class Reference:
    """A network to compare with: its cost, and its architecture as search.parquet writes it."""

    name: str
    architecture: str
    macs: int


def draw_search(
    path: Path, candidates: pd.DataFrame, references: list[Reference], objective: str, max_macs: int | None
) -> None:
    """Draw the candidates' scores against their cost, the chosen one with its standard error, and the references.

    `candidates` holds the columns generation, architecture, score, standard_error, macs, chosen. A reference that the
    search has scored is a point, another one is a line at its cost. `objective` names the score.
    """
    scored = candidates[candidates["score"].notna()]
    with drawing(path, 8.0, 5.0) as figure:
        axes = figure.subplots()
        axes.set_title("Search: score and cost of every candidate")
        axes.set_xlabel("multiply-accumulate operations for one image")
        if scored.empty:
            _nothing(axes)
            return
        scale, unit = _unit(scored["macs"].to_numpy(float))
        axes.set_xlabel(f"{unit} multiply-accumulate operations for one image")
        name_score(axes, objective)
        axes.grid()
        points = axes.scatter(
            scored["macs"] / scale,
            scored["score"],
            c=scored["generation"] + 1,
            cmap=_TIME,
            s=26,
            linewidths=0.4,
            edgecolors="white",
            zorder=2,
        )
        if scored["generation"].nunique() > 1:
            bar = figure.colorbar(points, ax=axes, pad=0.015, fraction=0.04, ticks=MaxNLocator(integer=True, nbins=8))
            bar.set_label("generation")
            bar.outline.set_visible(False)
        _front(axes, scored, scale)
        _chosen(axes, scored[scored["chosen"]], scale)
        for reference in references:
            _reference(axes, reference, scored, scale)
        if max_macs is not None:
            axes.axvline(max_macs / scale, color=INK, linewidth=1.0, linestyle=":", label="limit")
        axes.legend(loc="best")


def pareto_front(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the positions of the points that no other one beats in cost and score, by ascending cost."""
    order = np.lexsort((-score, cost))
    best = np.maximum.accumulate(score[order])
    rises = np.concatenate([[True], best[1:] > best[:-1]])
    return order[rises]


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "The architecture was given: nothing was scored.", ha="center", va="center", color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])


def _unit(macs: np.ndarray) -> tuple[float, str]:
    for scale, unit in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if np.median(macs) >= scale:
            return scale, unit
    return 1.0, "number of"


def _front(axes: Axes, scored: pd.DataFrame, scale: float) -> None:
    macs, score = scored["macs"].to_numpy(float), scored["score"].to_numpy(float)
    front = pareto_front(macs, score)
    axes.step(
        macs[front] / scale,
        score[front],
        where="post",
        color=MUTED,
        linewidth=1.0,
        label="best at the cost or less",
        zorder=1,
    )


def _chosen(axes: Axes, chosen: pd.DataFrame, scale: float) -> None:
    axes.errorbar(
        chosen["macs"] / scale,
        chosen["score"],
        yerr=chosen["standard_error"],
        fmt="*",
        markersize=17,
        color=NETWORKS["final"],
        markeredgecolor="white",
        elinewidth=1.4,
        capsize=3.0,
        label="chosen, ± one standard error",
        zorder=4,
    )


def _once(axes: Axes, label: str) -> str:
    """Return a label, or what keeps one out of the legend that is in it already."""
    return "_" if label in axes.get_legend_handles_labels()[1] else label


def _reference(axes: Axes, reference: Reference, scored: pd.DataFrame, scale: float) -> None:
    which = kind(reference.name)
    marker, colour = {"random": "s", LARGEST: "D"}[which], NETWORKS[which]
    match = scored[scored["architecture"] == reference.architecture]
    if match.empty:
        axes.axvline(
            reference.macs / scale,
            color=colour,
            linewidth=1.2,
            linestyle="--" if which == "random" else "-.",
            label=_once(axes, f"{which} (not scored)"),
            zorder=1,
        )
        return
    axes.plot(
        match["macs"] / scale,
        match["score"],
        marker,
        markersize=9,
        markerfacecolor="none",
        markeredgewidth=1.8,
        color=colour,
        label=_once(axes, which),
        zorder=3,
    )
