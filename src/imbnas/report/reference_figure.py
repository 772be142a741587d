"""The figure of the trained networks: accuracy on the test rows against cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.ticker import PercentFormatter

from imbnas.network_names import FINAL, LARGEST, by_place, kind
from imbnas.report.style import INK, NETWORKS, SHADES, drawing

MARKERS = {FINAL: ("*", 16.0), "random": ("s", 6.0), LARGEST: ("D", 7.0)}


def draw_references(path: Path, networks: Mapping[str, Mapping[str, Any]], found: Mapping[str, Any] | None) -> None:
    """Draw each network's balanced accuracy with its interval at its MACs, and what a random network would have.

    `networks` are those of details.json and `found` its references: the band is the interval of prediction around the
    random ones' mean, into which a choice that is no better than chance falls.
    """
    score = "balanced_accuracy"
    with drawing(path, 8.0, 5.0) as figure:
        axes = figure.subplots()
        axes.set_title("Trained networks: accuracy and cost")
        axes.set_xlabel("multiply-accumulate operations for one image")
        axes.set_ylabel("balanced accuracy on the test rows")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid()
        random = (found or {}).get("random")
        if random is not None and random["networks"] > 1:
            mean, difference = random["mean"][score], random["difference"][score]
            down, up = difference["value"] - difference["low"], difference["high"] - difference["value"]
            label = "another random network, by these"
            axes.axhspan(mean - up, mean + down, color=SHADES["many"], linewidth=0, zorder=0, label=label)
            axes.axhline(mean, color=NETWORKS["random"], linewidth=1.0, linestyle="--", label="mean of the random ones")
        shown: set[str] = set()
        for name in sorted(networks, key=by_place):
            one, which = networks[name], kind(name)
            value, (low, high) = one[score], one["intervals"][score]
            marker, size = MARKERS[which]
            axes.errorbar(
                one["macs"],
                value,
                yerr=[[max(value - low, 0.0)], [max(high - value, 0.0)]],
                fmt=marker,
                markersize=size,
                color=NETWORKS[which],
                markeredgecolor="white",
                elinewidth=1.1,
                capsize=2.5,
                label="_" if which in shown else {FINAL: "chosen"}.get(which, which),
                zorder=3 if which == FINAL else 2,
            )
            if which == "random":
                axes.annotate(
                    name.partition("-")[2],
                    (one["macs"], value),
                    xytext=(5, 4),
                    textcoords="offset points",
                    fontsize=7.0,
                    color=INK,
                )
            shown.add(which)
        axes.legend(loc="best")
