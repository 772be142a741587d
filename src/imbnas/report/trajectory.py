"""The figure of a differentiable search: what its architecture did over the epochs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from imbnas.report.style import INK, MUTED, NETWORKS, drawing

COLOURS = {"normal": NETWORKS["final"], "reduce": NETWORKS["largest"], "cell": NETWORKS["final"]}
OTHERS = (INK, NETWORKS["random"], NETWORKS["largest"], NETWORKS["final"], MUTED)
"""Colours of other lines, such as those of a space's stages, in their order."""


def draw_trajectory(path: Path, epochs: pd.DataFrame, objective: str) -> None:
    """Draw score, edge entropy, skip connections, the Hessian's eigenvalue and learning rates against the epoch.

    `epochs` is results/search.parquet of the method darts. `objective` names the score. What a search has not measured
    says so.
    """
    at = epochs["generation"] + 1
    with drawing(path, 9.0, 6.0) as figure:
        grid = figure.subplots(2, 3)
        figure.suptitle("Search: the architecture over the epochs", x=0.01, ha="left", fontweight="bold")
        score, entropy, skips, loss, eigenvalue, rate = grid.ravel()
        _line(score, at, {"search network": epochs["score"]}, f"{objective.replace('_', ' ')}, validation rows")
        score.yaxis.set_major_formatter(PercentFormatter(1.0))
        _line(entropy, at, {"mean over edges": epochs["entropy"]}, "edge entropy, nats")
        kinds = [name.removeprefix("skips_") for name in map(str, epochs) if name.startswith("skips_")]
        _line(skips, at, {kind: epochs[f"skips_{kind}"] for kind in kinds}, "skip connections derived")
        skips.yaxis.set_major_locator(MaxNLocator(integer=True))
        _line(loss, at, {"weights": epochs["train_loss"], "architecture": epochs["search_loss"]}, "loss")
        _line(eigenvalue, at, {"Hessian": epochs["eigenvalue"]}, "dominant eigenvalue")
        rates = {"architecture's rate": epochs["architecture_rate"] / max(epochs["architecture_rate"].max(), 1e-300)}
        _line(rate, at, {**rates, "first branch": epochs["mixing"]}, "share of the largest")


def _line(axes: Axes, at: pd.Series, lines: dict[str, pd.Series], title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid()
    shown = {name: values for name, values in lines.items() if values.notna().any()}
    if not shown:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", color=MUTED, transform=axes.transAxes)
        return
    for name, values in shown.items():
        axes.plot(at, values.astype(float), label=name, color=COLOURS.get(name, _other(name, lines)), linewidth=1.4)
    if len(lines) > 1:
        axes.legend(loc="best")


def _other(name: str, lines: dict[str, pd.Series]) -> str:
    return OTHERS[list(lines).index(name) % len(OTHERS)]
