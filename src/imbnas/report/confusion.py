"""The confusion matrix, with classes in order of their training count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.ticker import PercentFormatter

from imbnas.report.style import INK, LINE, MUTED, NETWORKS, drawing, readable

POOLED = 200
"""With more classes than this the figure pools neighbours in count, so that a cell stays visible."""
NAMED = 40
"""With more rows than this the axes name shot groups in place of classes."""
_BLUES = LinearSegmentedColormap.from_list("imbnas", ["#ffffff", "#cfe2f3", "#5b9bd5", "#0b5fa5", "#06304f"])


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix from the most to the least frequent class, or pool of neighbouring classes."""

    matrix: np.ndarray
    """Test images (B, B): row the true bin, column the predicted one."""
    order: np.ndarray
    """Class labels by descending training count, equal ones by label."""
    bins: np.ndarray
    """Bin of each class label (C,)."""

    @property
    def heads(self) -> np.ndarray:
        """The most frequent class of each bin (B,)."""
        return self.order[np.unique(self.bins[self.order], return_index=True)[1]]

    @property
    def pooled(self) -> bool:
        """Whether a bin holds more than one class."""
        return len(self.matrix) < len(self.bins)


def confusion(actual: np.ndarray, predicted: np.ndarray, counts: np.ndarray, most: int) -> Confusion:
    """Return the confusion of test images with labels `actual` and `predicted` in at most `most` bins.

    Classes are sorted by training count; if there are more than `most`, neighbours share a bin, as evenly as they can.
    """
    classes = len(counts)
    order = np.argsort(-counts, kind="stable")
    size = min(most, classes)
    bins = np.empty(classes, np.int64)
    bins[order] = np.arange(classes) * size // classes
    pairs = np.bincount(bins[actual] * size + bins[predicted], minlength=size * size)
    return Confusion(pairs.reshape(size, size), order, bins)


def draw_confusion(
    path: Path, actual: np.ndarray, predicted: np.ndarray, names: list[str], counts: np.ndarray, groups: np.ndarray
) -> None:
    """Draw the row-normalised confusion matrix, and above it how often each class is predicted.

    `actual` and `predicted` are labels of the test images; `counts` and `groups` hold each class's training count and
    shot group. Above POOLED classes, a hundred pools of neighbours in count stand for them.
    """
    table = confusion(actual, predicted, counts, len(counts) if len(counts) <= POOLED else 100)
    truth = table.matrix.sum(axis=1)
    shares = table.matrix / np.maximum(truth, 1)[:, None]
    with drawing(path, 8.2, 8.2) as figure:
        bias, axes = figure.subplots(2, 1, height_ratios=[1, 7.5], sharex=True)
        # Square roots bring out the rare confusions, which are the interesting ones, where cells have no numbers.
        norm = PowerNorm(1.0 if len(truth) <= 20 else 0.5, vmin=0.0, vmax=1.0)
        image = axes.imshow(shares, cmap=_BLUES, norm=norm, aspect="auto", interpolation="nearest")
        _bias(bias, table.matrix.sum(axis=0), truth)
        _labels(axes, table, names, counts, groups)
        _numbers(axes, shares)
        _separate(axes, table, groups)
        bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, format=PercentFormatter(1.0))
        bar.set_label("share of the row's test images")
        bar.outline.set_edgecolor(LINE)
        pools = f" ({len(truth)} pools of classes)" if table.pooled else ""
        bias.set_title(f"Confusion on the test split, frequent classes first{pools}")


def _bias(axes: Axes, predicted: np.ndarray, truth: np.ndarray) -> None:
    """Draw how often each column is predicted relative to how often it is true: 1 is unbiased."""
    ratio = predicted / np.maximum(truth, 1)
    columns = np.arange(len(ratio))
    axes.bar(columns, ratio, width=0.8 if len(ratio) <= NAMED else 1.0, color=NETWORKS["final"], linewidth=0)
    axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_ylabel("predicted\n/ actual")
    axes.set_ylim(0.0, max(1.5, float(ratio.max()) * 1.1))
    axes.tick_params(axis="x", bottom=False, labelbottom=False)


def _labels(axes: Axes, table: Confusion, names: list[str], counts: np.ndarray, groups: np.ndarray) -> None:
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (training images)", labelpad=8.0)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    places = np.arange(len(table.matrix))
    if len(places) <= NAMED:
        shown = [readable(names[label], int(label)) for label in table.order]
        size = 8.5 if len(places) <= 20 else 6.5
        if max(map(len, shown)) * len(shown) <= 60:
            axes.set_xticks(places, shown, fontsize=size)
        else:
            axes.set_xticks(places, shown, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
        heads = [f"{name} ({counts[label]})" for name, label in zip(shown, table.order, strict=True)]
        axes.set_yticks(places, heads, fontsize=size)
        return
    # Too many for names: eleven counts along the side, and the groups along the bottom.
    marks = np.unique(np.linspace(0, len(places) - 1, 11).round().astype(int))
    axes.set_yticks(marks, [str(counts[table.heads[mark]]) for mark in marks])
    axes.set_ylabel("true class, by its training images")
    middles, words = [], []
    for group, (start, end) in _runs(table, groups).items():
        middles.append((start + end - 1) / 2)
        words.append(f"{group}\n({int((groups == group).sum())} classes)")
    axes.set_xticks(middles, words)


def _numbers(axes: Axes, shares: np.ndarray) -> None:
    """Write each share of at least half a percent into its cell, if there is room."""
    if len(shares) > 20:
        return
    size = 9.0 if len(shares) <= 12 else 6.0
    for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
        value = float(shares[row, column])
        colour = "white" if value > 0.45 else INK
        axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=size, color=colour)


def _separate(axes: Axes, table: Confusion, groups: np.ndarray) -> None:
    """Rule off the shot groups from one another."""
    for start, _ in _runs(table, groups).values():
        if start:
            axes.axhline(start - 0.5, color=MUTED, linewidth=0.9)
            axes.axvline(start - 0.5, color=MUTED, linewidth=0.9)


def _runs(table: Confusion, groups: np.ndarray) -> dict[str, tuple[int, int]]:
    """Return the first bin of each shot group present and the one after its last; a shared bin is the first's."""
    heads = groups[table.heads]
    return {
        group: (int(np.argmax(heads == group)), int(len(heads) - np.argmax(heads[::-1] == group)))
        for group in ("many", "medium", "few")
        if (heads == group).any()
    }
