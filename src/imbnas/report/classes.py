"""The figure that a long tail asks for: each class's accuracy against its number of training images."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from imbnas.network_names import FINAL, LARGEST, kind, title
from imbnas.report.style import INK, NETWORKS, SHADES, drawing, readable

NAMED = 20
"""With at most so many classes each is named and has its interval; with more a running mean takes the names' place."""


def draw_classes(path: Path, table: pd.DataFrame, rule: str) -> None:
    """Draw recall on the test split against training count, with one point per class of the network `final`.

    `table` holds the columns network, label, class, count, group, support, recall; `rule` says in words what many,
    medium and few mean. The other networks appear as lines. Classes without test images are left out.
    """
    table = table[table["support"] > 0].sort_values(["count", "label"], ascending=[False, True], kind="stable")
    final = table[table["network"] == "final"]
    with drawing(path, 8.0, 5.0) as figure:
        axes = figure.subplots()
        count_axis(axes, positions(final))
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        shade(axes, final, "recall", "{:.1%}".format)
        lines(axes, table, "recall")
        _points(axes, final)
        axes.set_title("Accuracy of each class", pad=44)
        axes.set_xlabel(f"training images of the class (log scale)\n{rule}")
        axes.set_ylabel("recall on the test split")
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=4, title=window_title(final), title_fontsize=8.0)


def spans(counts: np.ndarray, groups: np.ndarray, low: float, high: float) -> dict[str, tuple[float, float]]:
    """Return where each group present begins and ends on the axis of counts, which runs from `low` to `high`.

    Neighbours meet half-way, on the log scale, between the nearest counts of the two.
    """
    present = [group for group in ("few", "medium", "many") if (groups == group).any()]
    edges = [low]
    for below, above in pairwise(present):
        edges.append(float(np.sqrt(counts[groups == below].max() * counts[groups == above].min())))
    edges.append(high)
    return {group: (edges[k], edges[k + 1]) for k, group in enumerate(present)}


def wilson(recall: np.ndarray, support: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper ends of the 95 % interval of a share (Wilson 1927), which stays inside [0, 1]."""
    weight = 1.0 / (1.0 + z * z / support)
    centre = weight * (recall + z * z / (2 * support))
    half = weight * z * np.sqrt(recall * (1 - recall) / support + (z / (2 * support)) ** 2)
    return np.minimum(centre - half, recall), np.maximum(centre + half, recall)


def positions(table: pd.DataFrame) -> np.ndarray:
    """Return the counts as the log axis takes them: a class without training images stands at one half."""
    return np.maximum(table["count"].to_numpy(float), 0.5)


def count_axis(axes: Axes, x: np.ndarray) -> None:
    """Make the x axis a log scale of training counts that holds `x`."""
    pad = max(1.15, float(x.max() / x.min()) ** 0.05)
    axes.set_xscale("log")
    axes.set_xlim(float(x.min()) / pad, float(x.max()) * pad)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    ratio = float(x.max() / x.min())
    if ratio < 4:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    elif ratio < 100:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))


def shade(axes: Axes, final: pd.DataFrame, column: str, text: Callable[[float], str]) -> None:
    """Shade the shot groups, with each one's size and mean of `column` above the axes, the mean also as a dashed line.

    `text` writes a mean; the x axis must have its limits.
    """
    groups, values = final["group"].to_numpy(), final[column].to_numpy(float)
    low, high = axes.get_xlim()
    for group, (left, right) in spans(positions(final), groups, low, high).items():
        axes.axvspan(left, right, color=SHADES[group], linewidth=0, zorder=0)
        size, mean = int((groups == group).sum()), float(values[groups == group].mean())
        axes.hlines(mean, left, right, colors=NETWORKS["final"], linestyles=(0, (4, 3)), linewidth=1.0, alpha=0.7)
        axes.annotate(
            f"{group}\n{size} {'class' if size == 1 else 'classes'}\nmean {text(mean)}",
            (float(np.sqrt(left * right)), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.0,
            color=INK,
        )


def lines(axes: Axes, table: pd.DataFrame, column: str) -> None:
    """Draw a line for the chosen network, for the largest one, and for the mean of the random ones.

    That of the chosen one is left out where its classes are points. `table` is in the order of the axis.
    """
    for network in (LARGEST, "random", FINAL):
        part = table[table["network"].map(kind) == network]
        number = part["network"].nunique()
        if not part.empty and not (network == FINAL and len(part) <= NAMED):
            mean = part.groupby("label", sort=False).agg({"count": "first", column: "mean"})
            _line(axes, mean, network, column, f"random, mean of {number}" if number > 1 else title(network))


def _line(axes: Axes, table: pd.DataFrame, network: str, column: str, label: str) -> None:
    """Join the classes; beyond NAMED of them, by a running mean over a tenth of the classes."""
    values, x = table[column].to_numpy(float), positions(table)
    marker = "o"
    if len(table) > NAMED:
        kernel = np.ones(_window(table)) / _window(table)
        values = np.convolve(values, kernel, mode="valid")
        x = np.exp(np.convolve(np.log(x), kernel, mode="valid"))
        marker = ""
    axes.plot(x, values, marker=marker, ms=3.5, lw=1.6, color=NETWORKS[network], alpha=0.9, label=label)


def window_title(final: pd.DataFrame) -> str | None:
    """Return what the lines are, to be said above the legend; None where they join the classes themselves."""
    return f"lines: running mean of {_window(final)} classes" if len(final) > NAMED else None


def _window(table: pd.DataFrame) -> int:
    return max(3, len(table) // 10)


def _points(axes: Axes, final: pd.DataFrame) -> None:
    x, recall = positions(final), final["recall"].to_numpy(float)
    if len(final) <= NAMED:
        lower, upper = wilson(recall, final["support"].to_numpy(float))
        axes.errorbar(
            x,
            recall,
            yerr=np.stack([recall - lower, upper - recall]),
            fmt="o",
            color=NETWORKS["final"],
            ecolor=NETWORKS["final"],
            elinewidth=1.0,
            capsize=2.0,
            markersize=6.5,
            markeredgecolor="white",
            label=f"{title(FINAL)}, with 95% intervals",
            zorder=3,
        )
        write_names(axes, final, lower, upper)
        return
    cloud(axes, final, "recall")


def cloud(axes: Axes, final: pd.DataFrame, column: str) -> None:
    """Draw a pale point for each of many classes."""
    size = 22.0 if len(final) <= 200 else 9.0
    axes.scatter(
        positions(final),
        final[column],
        s=size,
        color=NETWORKS["final"],
        alpha=0.35,
        linewidths=0,
        label="one class of the chosen",
        zorder=2,
    )


def write_names(axes: Axes, final: pd.DataFrame, lower: np.ndarray, upper: np.ndarray) -> None:
    """Write class names below `lower`, or above `upper` where there is no room; none over the one before."""
    x = positions(final)
    low, high = np.log(axes.get_xlim())
    bottom, top = axes.get_ylim()
    last, before = np.inf, 0
    for k, (name, label) in enumerate(zip(final["class"], final["label"], strict=True)):
        text = readable(str(name), int(label), 12)
        place = (np.log(x[k]) - low) / (high - low)
        # A character is about 0.0095 of the axis wide, and names are centred.
        if last - place < 0.0095 * (len(text) + before) / 2:
            continue
        last, before = place, len(text)
        below = lower[k] > bottom + 0.085 * (top - bottom)
        axes.annotate(
            text,
            (x[k], lower[k] if below else upper[k]),
            xytext=(0, -4 if below else 3),
            textcoords="offset points",
            ha="center",
            va="top" if below else "bottom",
            fontsize=7.5,
            color=INK,
            path_effects=[withStroke(linewidth=2.0, foreground="white", alpha=0.85)],
            zorder=5,
        )
