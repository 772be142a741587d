"""Figures of a study: scores of the chosen network in every setting, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from imbnas.report.style import LINE, MUTED, drawing
from imbnas.study.plan import label
from imbnas.study.results import groups

COLOURS = ("#0b5fa5", "#d9731a", "#2a9d8f", "#8c4b9e", "#b23a48", "#6b7785", "#c9a227", "#3a5a40")
PANELS = 6
"""At most so many panels; what more settings there are is only in the tables."""
ROWS = 36
"""At most so many differences in a figure; of more only the means are drawn."""


def draw_scores(path: Path, table: pd.DataFrame, settings: Sequence[str], scores: Sequence[str], title: str) -> None:
    """Draw the chosen network's `scores`: a dot for each run, mean and sample standard deviation beside the dots.

    `table` is `results.results`. The first of the `settings` runs along the axis, the second by colour; the others, and
    several scores, make panels.
    """
    final = table[table["network"] == "final"]
    panels = _panels(final, list(settings[2:]), scores)[:PANELS]
    with drawing(path, min(5.2 * len(panels), 14.0), 4.4) as figure:
        all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (heading, rows, score) in zip(all_axes, panels, strict=True):
            _panel(axes, rows, settings, score)
            axes.set_title(heading, fontsize=9.0, fontweight="normal", color=MUTED)
        all_axes[0].set_ylabel(title)
        figure.suptitle("dots: runs of the chosen network; bars: mean ± sample standard deviation", fontsize=8.0)
        _legend(figure, final, settings)


def draw_pairs(path: Path, table: pd.DataFrame, mean: pd.DataFrame, settings: Sequence[str], level: float) -> None:
    """Draw the differences in balanced accuracy from each axis's first value: the runs', their means and intervals.

    `table` is `differences.pairs` and `mean` `differences.over_runs`, whose rows come in the same order. Runs that
    differ by the seed stand side by side.
    """
    table = table[table["score"] == "balanced_accuracy"]
    ends = mean[mean["score"] == "balanced_accuracy"][["mean", "low", "high"]].to_numpy(float)
    rows = list(groups(table, [*settings, "axis", "against"]))
    with drawing(path, 8.0, 1.6 + 0.34 * max(len(rows[:ROWS]), 2)) as figure:
        axes = figure.subplots()
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        names = []
        for place, (key, group) in enumerate(rows[:ROWS]):
            axis, against = key["axis"], key["against"]
            colour = COLOURS[list(settings).index(axis) % len(COLOURS)]
            _row(axes, place, group, ends[place], colour)
            others = ", ".join(f"{name} {label(value)}" for name, value in key.items() if name in {*settings} - {axis})
            names.append(f"{axis} {label(key[axis])} - {against}" + (f"   ({others})" if others else ""))
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel(
            f"difference in balanced accuracy\nticks: runs; dots and bars: mean and its {level:.0%} interval"
        )
        axes.set_title("Against the first value of each axis" if rows else "No two finished cells can be compared")
        if len(rows) > ROWS:
            axes.text(1.0, -0.02, f"the first {ROWS} of {len(rows)}", transform=axes.transAxes, ha="right", color=MUTED)


def _panels(final: pd.DataFrame, others: list[str], scores: Sequence[str]) -> list[tuple[str, pd.DataFrame, str]]:
    """Return heading, rows and score of each panel."""
    found = []
    for key, rows in groups(final, others) if others else [({}, final)]:
        text = ", ".join(f"{name} {label(value)}" for name, value in key.items())
        for score in scores:
            parts = [score.replace("_", " ")] * (len(scores) > 1) + [text] * bool(text)
            found.append((": ".join(parts), rows, score))
    return found


def _panel(axes: Axes, rows: pd.DataFrame, settings: Sequence[str], score: str) -> None:
    first = _values(rows, settings[0]) if settings else [None]
    second = _values(rows, settings[1]) if len(settings) > 1 else [None]
    width = 0.7 / len(second)
    for k, colour_value in enumerate(second):
        for place, value in enumerate(first):
            inside = rows
            if value is not None:
                inside = inside[inside[settings[0]] == value]
            if colour_value is not None:
                inside = inside[inside[settings[1]] == colour_value]
            found = inside[score].dropna().to_numpy(float)
            if len(found):
                _point(axes, place + (k - (len(second) - 1) / 2) * width, found, width, COLOURS[k % len(COLOURS)])
    axes.set_xticks(range(len(first)), ["all" if value is None else label(value) for value in first])
    axes.set_xlim(-0.6, len(first) - 0.4)
    axes.set_xlabel(settings[0] if settings else "")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y")


def _point(axes: Axes, x: float, values: np.ndarray, width: float, colour: str) -> None:
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    axes.bar(x, float(values.mean()), 0.9 * width, color=colour, alpha=0.25, zorder=1)
    axes.errorbar(x, float(values.mean()), spread, color=colour, capsize=3, linewidth=1.4, zorder=3)
    offsets = np.linspace(-0.2, 0.2, len(values)) * width if len(values) > 1 else np.zeros(1)
    axes.scatter(x + offsets, values, s=14, color=colour, edgecolor="white", linewidth=0.5, zorder=4)


def _row(axes: Axes, place: int, group: pd.DataFrame, ends: np.ndarray, colour: str) -> None:
    step = 0.5 / max(len(group), 1)
    for k, value in enumerate(group["difference"]):
        axes.plot([value], [place + (k - (len(group) - 1) / 2) * step], marker="|", markersize=6, color=colour)
    mean, low, high = ends
    axes.plot([low, high], [place, place], color=colour, linewidth=1.4, alpha=0.7)
    axes.scatter([mean], [place], s=34, color=colour, edgecolor="white", zorder=4)
    axes.axhline(place + 0.5, color=LINE, linewidth=0.4)


def _values(rows: pd.DataFrame, name: str) -> list[object]:
    return list(dict.fromkeys(rows[name]))


def _legend(figure: Figure, final: pd.DataFrame, settings: Sequence[str]) -> None:
    """Name the colours, which stand for the values of the second setting."""
    if len(settings) > 1:
        values = _values(final, settings[1])
        handles = [Patch(color=COLOURS[k % len(COLOURS)], label=label(value)) for k, value in enumerate(values)]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title=settings[1])
