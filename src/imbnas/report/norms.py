"""The norms of the head's class vectors: training on a long tail lengthens those of frequent classes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from imbnas.network_names import FINAL, title
from imbnas.report.classes import NAMED, cloud, count_axis, lines, positions, shade, window_title, write_names
from imbnas.report.style import NETWORKS, drawing

NORMS = {
    "linear": "norm of the class's weights",
    "cosine": "norm of the class's weights\n(the cosine head divides by it)",
    "etf": "norm of the class's vector\n(fixed, 1 for every class)",
    "ncm": "norm of the class's mean feature",
}
"""What the norm is of, by the kind of head."""


def draw_weights(path: Path, table: pd.DataFrame, head: str, rule: str) -> None:
    """Draw the norm of each class's vector in the head against its training count (Kang et al. 2020, figure 2).

    `table` holds the columns network, label, class, count, group, norm; `head` is the kind of the heads, one of NORMS;
    `rule` says in words what many, medium and few mean. The other networks appear as lines.
    """
    table = table.sort_values(["count", "label"], ascending=[False, True], kind="stable")
    final = table[table["network"] == "final"]
    with drawing(path, 8.0, 5.0) as figure:
        axes = figure.subplots()
        count_axis(axes, positions(final))
        # From zero, so that a difference looks as large as it is; a head of zeros still has an axis.
        axes.set_ylim(0.0, 1.12 * max(float(table["norm"].max()), 1e-6))
        shade(axes, final, "norm", "{:.3g}".format)
        lines(axes, table, "norm")
        if len(final) <= NAMED:
            axes.plot(
                positions(final),
                final["norm"],
                "o",
                color=NETWORKS["final"],
                markersize=6.5,
                markeredgecolor="white",
                label=title(FINAL),
                zorder=3,
            )
            norms = final["norm"].to_numpy(float)
            write_names(axes, final, norms, norms)
        else:
            cloud(axes, final, "norm")
        axes.set_title("Size of each class in the head", pad=44)
        axes.set_xlabel(f"training images of the class (log scale)\n{rule}")
        axes.set_ylabel(NORMS[head])
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=4, title=window_title(final), title_fontsize=8.0)
