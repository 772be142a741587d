"""The figures of the step `evaluate`, and the files for `dvc plots`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from imbnas.longtail.shots import GROUPS, rule_text, shot_groups
from imbnas.params.evaluate import EvaluateView
from imbnas.report.architecture import draw_architecture
from imbnas.report.classes import draw_classes
from imbnas.report.confusion import draw_confusion
from imbnas.report.front_figure import draw_front
from imbnas.report.norms import draw_weights
from imbnas.report.plots import write_classes, write_confusion, write_reliability, write_search
from imbnas.report.reliability import draw_reliability
from imbnas.report.scores import BIN_RULE, Answers, Protocol, reliability
from imbnas.report.search_figure import Reference, draw_search
from imbnas.report.trajectory import draw_trajectory
from imbnas.run.context import Context
from imbnas.spaces.drawing import graphs
from imbnas.spaces.registry import make_space
from imbnas.steps.evaluate_inputs import Inputs

ERRORS = {"all": "ece", **{group: f"ece_{group}" for group in GROUPS}}
"""The name of each group's calibration error among the intervals."""


def draw_figures(
    view: EvaluateView,
    context: Context,
    inputs: Inputs,
    protocol: Protocol,
    table: pd.DataFrame,
    final: Answers,
    intervals: dict[str, Any],
    head: str,
) -> None:
    """Draw all figures and write the files beside them."""
    figures, plots, names = context.path("figures"), context.path("plots"), inputs.test.info.classes
    groups, rule = np.asarray(shot_groups(inputs.counts, protocol.shots)), rule_text(protocol.shots)
    draw_classes(figures / "classes.png", table, rule)
    draw_confusion(figures / "confusion.png", final.actual, final.predicted, names, inputs.counts, groups)
    draw_weights(figures / "weights.png", table, head, rule)
    bins = reliability(final, protocol)
    errors = {group: intervals[name] for group, name in ERRORS.items() if name in intervals}
    note = f"{protocol.bins} {BIN_RULE}; groups by the true class, {rule}"
    draw_reliability(figures / "reliability.png", bins, errors, note)
    write_reliability(plots / "reliability.csv", bins)
    references = [
        Reference(name, "-".join(map(str, network.meta["architecture"])), network.meta["macs"])
        for name, network in inputs.networks.items()
        if name != "final"
    ]
    limit = inputs.search["limits"]["max_macs"]
    if inputs.search.get("method") == "darts":
        draw_trajectory(figures / "search.png", pd.read_parquet(context.path("search")), inputs.search["objective"])
    else:
        draw_search(figures / "search.png", inputs.candidates, references, inputs.search["objective"], limit)
    draw_front(figures / "front.png", inputs.candidates, inputs.front, inputs.search["objective"])
    drawn = graphs(make_space(view.space), inputs.search["chosen"]["architecture"])
    draw_architecture([figures / f"architecture.{kind}" for kind in ("png", "svg")], drawn)
    write_confusion(plots / "confusion.csv", final.actual, final.predicted, names, inputs.counts)
    write_classes(plots / "classes.csv", table)
    write_search(plots / "search.csv", inputs.candidates)
