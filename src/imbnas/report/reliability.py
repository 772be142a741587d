"""The reliability diagram: how often a network is right where it is how sure, overall and in each shot group."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from imbnas.report.style import INK, MUTED, NETWORKS, drawing


class _Side(NamedTuple):
    colour: str
    label: str


_OVER = _Side("#d9731a", "mean confidence above it")
_UNDER = _Side("#2a9d8f", "mean confidence below it")


def draw_reliability(path: Path, table: pd.DataFrame, intervals: Mapping[str, tuple[float, float]], note: str) -> None:
    """Draw accuracy against confidence, bin by bin, a panel for all rows and one for each shot group present.

    `table` holds the columns group ("all", "many", ...), lower, upper, rows, confidence, accuracy of each bin, the last
    two NaN in an empty one. `intervals` holds those of each group's calibration error; `note` states the bin rule.
    """
    names = list(dict.fromkeys(table["group"]))
    with drawing(path, max(6.5, 1.0 + 2.7 * len(names)), 5.2) as figure:
        figure.set_layout_engine("constrained", wspace=0.05)
        panels = figure.subplots(2, len(names), height_ratios=[4, 1], sharex=True, sharey="row", squeeze=False)
        figure.suptitle("Confidence and accuracy", x=0.01, ha="left", fontsize=11.0, fontweight="bold", color=INK)
        for (upper, lower), name in zip(panels.T, names, strict=True):
            part = table[table["group"] == name]
            _bars(upper, part)
            upper.set_title(_title(name, part, intervals.get(name)), fontsize=9.0, fontweight="normal", loc="center")
            _rows(lower, part)
        panels[0, 0].set_ylabel("share of right predictions")
        panels[1, 0].set_ylabel("rows")
        # The handles of the first panel: those of the others are the same.
        handles, labels = panels[0, 0].get_legend_handles_labels()
        text = f"{note}. Lines below: accuracy (blue) and mean confidence (orange) of the panel's rows."
        title = textwrap.fill(text, int(16 * figure.get_figwidth()))
        figure.legend(handles, labels, loc="outside lower center", ncols=4, title=title, title_fontsize=8.0)


def calibration_error(table: pd.DataFrame) -> float:
    """Return the calibration error of the bins of one group: their differences weighted by their rows."""
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["rows"]
    return float(gaps.sum() / table["rows"].sum())


def _title(name: str, part: pd.DataFrame, interval: tuple[float, float] | None) -> str:
    rows = int(part["rows"].sum())
    ends = "" if interval is None else f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    title = "all classes" if name == "all" else f"{name}-shot classes"
    return f"{title}\n{rows:,} rows, ECE {100 * calibration_error(part):.1f}%{ends}"


def _bars(axes: Axes, part: pd.DataFrame) -> None:
    """Draw the accuracy of each filled bin as a bar, and how far the bin's mean confidence lies above or below."""
    part = part[part["rows"] > 0]
    left, width = part["lower"].to_numpy(), (part["upper"] - part["lower"]).to_numpy()
    accuracy, confidence = part["accuracy"].to_numpy(float), part["confidence"].to_numpy(float)
    colour = NETWORKS["final"]
    axes.bar(left, accuracy, width, align="edge", color=colour, edgecolor="white", linewidth=0.5, label="accuracy")
    for side, low, high, hatch in ((_OVER, accuracy, confidence, ""), (_UNDER, confidence, accuracy, "////")):
        axes.bar(
            left,
            np.maximum(high - low, 0.0),
            width,
            low,
            align="edge",
            color=side.colour,
            alpha=0.5,
            edgecolor="white" if hatch else side.colour,
            linewidth=0.5,
            hatch=hatch,
            label=side.label,
        )
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="perfect calibration")
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _rows(axes: Axes, part: pd.DataFrame) -> None:
    """Draw how many rows each bin holds, with the mean confidence and the accuracy of all of them as lines."""
    rows, left = part["rows"].to_numpy(float), part["lower"].to_numpy()
    axes.bar(left, rows, part["upper"] - part["lower"], align="edge", color=MUTED, edgecolor="white", linewidth=0.5)
    for column, colour in (("accuracy", NETWORKS["final"]), ("confidence", _OVER.colour)):
        mean = float((part[column].fillna(0.0) * rows).sum() / rows.sum())
        axes.axvline(mean, color=colour, linewidth=1.4)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xticks([0.0, 0.5, 1.0])
    axes.set_xlabel("confidence")
