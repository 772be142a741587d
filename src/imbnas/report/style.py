"""One look for all figures, and PNG files whose bytes depend on nothing but what they show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from imbnas.files import write_with

DPI = 160
INK, MUTED, LINE = "#1f2933", "#6b7785", "#c9d0d8"
NETWORKS = {"final": "#0b5fa5", "random": "#2a9d8f", "largest": "#d9731a"}
"""Colour of each kind of evaluated network."""
SHADES = {"many": "#e3eef9", "medium": "#f3f3ec", "few": "#fdebdc"}
"""Background of each shot group."""

_FONT = "DejaVu Sans"
_STYLE: Any = {
    # matplotlib brings this family along, so that no machine's own fonts show.
    "font.family": [_FONT],
    "font.size": 9.0,
    # A class may be called "$5": it is not a formula.
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": LINE,
    "legend.fontsize": 8.0,
    "svg.hashsalt": "imbnas",
    "svg.fonttype": "path",
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of `width` x `height` inches and write it to `path`, by rename: PNG, or SVG by its suffix.

    Neither the user's matplotlibrc nor the time nor matplotlib's version gets into the file, and no window or global
    figure is made.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield figure
        # Both formats tell by default what made them, SVG also when, and with random names.
        vector = path.suffix == ".svg"
        metadata = {"Creator": None, "Date": None} if vector else {"Software": None}
        kind = "svg" if vector else "png"
        if not vector:
            _lay_out(figure)
        write_with(path, lambda part: figure.savefig(part, format=kind, dpi=DPI, metadata=metadata))


def _lay_out(figure: Figure) -> None:
    """Give all parts their places, for good: `savefig` would draw the whole figure once more to find them."""
    figure.set_dpi(DPI)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def readable(name: str, label: int, longest: int = 18) -> str:
    """Return a class's name as a figure shows it: at most `longest` characters; its label if the font lacks one."""
    if not name.strip() or any(ord(sign) not in _signs() for sign in name):
        return f"class {label}"
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


@cache
def _signs() -> frozenset[int]:
    """Return the code points that the figures' font can draw."""
    return frozenset(get_font(findfont(FontProperties(family=_FONT))).get_charmap())
