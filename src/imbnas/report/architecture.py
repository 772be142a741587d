"""The figure of an architecture: its cells or blocks as directed graphs, drawn without other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from imbnas.report.style import INK, LINE, MUTED, NETWORKS, SHADES, drawing
from imbnas.spaces.drawing import Graph

LONG = 7
"""A graph of more steps is a chain and is drawn from top to bottom."""
Place = tuple[float, float]


def draw_architecture(paths: Sequence[Path], graphs: Sequence[Graph]) -> None:
    """Draw the graphs beside each other, once for each path, as PNG or SVG by its suffix."""
    sizes = [_size(graph) for graph in graphs]
    for path in paths:
        with drawing(path, sum(width for width, _ in sizes), max(height for _, height in sizes)) as figure:
            row = figure.subplots(1, len(graphs), squeeze=False, width_ratios=[width for width, _ in sizes])[0]
            for axes, graph in zip(row, graphs, strict=True):
                _draw(axes, graph)


def depths(graph: Graph) -> dict[str, int]:
    """Return how many edges lie before each node on the longest way to it."""
    found: dict[str, int] = {}
    pending = list(graph.edges)
    for start, end, _ in graph.edges:
        found.setdefault(start, 0)
        found.setdefault(end, 0)
    # As many passes as there are nodes settle an acyclic graph.
    for _ in found:
        for start, end, _ in pending:
            found[end] = max(found[end], found[start] + 1)
    return found


def _size(graph: Graph) -> Place:
    layers = depths(graph)
    if max(layers.values(), default=0) > LONG:
        return 5.5, 0.8 + 0.45 * len(layers)
    return 2.0 + 2.0 * max(layers.values(), default=0), 4.6


def _places(graph: Graph) -> dict[str, Place]:
    """Return where each node stands: its depth to the right and, within a depth, from top to bottom."""
    layers = depths(graph)
    if max(layers.values(), default=0) > LONG:
        return {name: (0.0, -float(depth)) for name, depth in layers.items()}
    places: dict[str, Place] = {}
    for depth in sorted(set(layers.values())):
        members = [name for name in layers if layers[name] == depth]
        for number, name in enumerate(members):
            # Alternating heights keep edges that skip a node from running through it.
            shift = (0.5 if depth % 2 else -0.5) if len(members) == 1 else 0.0
            places[name] = (2.2 * depth, (len(members) - 1) / 2.0 * 1.9 - 1.9 * number + shift)
    return places


def _draw(axes: Axes, graph: Graph) -> None:
    places = _places(graph)
    chain = max(depths(graph).values(), default=0) > LONG
    axes.set_title(graph.title)
    axes.set_axis_off()
    if not places:
        axes.text(0.5, 0.5, "no edge", ha="center", va="center", color=MUTED)
        return
    seen: dict[str, int] = {}
    for start, end, label in graph.edges:
        bend = 0.0 if chain else 0.16 * (1 if seen.get(end, 0) % 2 else -1)
        seen[end] = seen.get(end, 0) + 1
        at = 0.5 if chain else (0.36, 0.66)[seen[end] % 2]
        _edge(axes, places[start], places[end], label, bend, at)
    for name, (x, y) in places.items():
        ends = name == "output" or name.startswith(("input", "image"))
        shade = SHADES["medium"] if ends else SHADES["many"]
        box = {"boxstyle": "round,pad=0.35", "facecolor": shade, "edgecolor": NETWORKS["final"], "linewidth": 1.0}
        axes.text(x, y, name, ha="center", va="center", color=INK, fontsize=8, bbox=box, zorder=3)
    xs, ys = zip(*places.values(), strict=True)
    axes.set_xlim(min(xs) - 0.9, max(xs) + (2.6 if chain else 0.9))
    axes.set_ylim(min(ys) - 1.0, max(ys) + 1.0)


def _edge(axes: Axes, start: Place, end: Place, label: str, bend: float, at: float) -> None:
    """Draw an arrow with its label at a share `at` of the way; straight ones have it beside them."""
    arrow = FancyArrowPatch(
        start,
        end,
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-|>",
        mutation_scale=9,
        shrinkA=16,
        shrinkB=16,
        color=MUTED if label else LINE,
        linewidth=1.1,
        zorder=1,
    )
    axes.add_patch(arrow)
    if not label:
        return
    # The arc is a parabola whose control point lies `bend` times the chord beside its middle.
    aside = 2.0 * at * (1.0 - at) * bend
    x = start[0] + at * (end[0] - start[0]) + aside * (end[1] - start[1])
    y = start[1] + at * (end[1] - start[1]) - aside * (end[0] - start[0])
    axes.text(
        x if bend else x + 0.15,
        y,
        label.replace("_", " "),
        ha="center" if bend else "left",
        va="center",
        fontsize=6.5,
        color=INK,
        bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        zorder=2,
    )
