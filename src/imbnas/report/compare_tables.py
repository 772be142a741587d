"""A comparison of finished projects as a table in a terminal, in Markdown and as JSON values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from imbnas.errors import UserError, visible
from imbnas.longtail.difference import Difference
from imbnas.longtail.shots import GROUPS
from imbnas.report.compare import Comparison, Row
from imbnas.report.escape import markdown
from imbnas.report.scores import rounded

Show = Callable[[object], str]
"""What makes a name fit for a format."""
_COLUMNS = ("method", "runs", "mean ± std")


def shown_scores(comparison: Comparison, group: str | None) -> dict[str, str]:
    """Return title by name of the scores to show: balanced accuracy, and the accuracy of a shot group.

    Raises:
        UserError: for an unknown group or one without classes.
    """
    scores = {"balanced_accuracy": "Balanced accuracy"}
    if group is None:
        return scores
    shots = comparison.details["shots"]
    if group not in GROUPS:
        raise UserError(f"--group {group}: expected one of {', '.join(GROUPS)}")
    if not shots["classes"][group]:
        raise UserError(f"--group {group}: no class is in it, by {shots['text']}; expected a group that has some")
    count = shots["classes"][group]
    classes = "1 class" if count == 1 else f"{count} classes"
    return {**scores, group: f"Accuracy of the {group}-shot classes ({classes})"}


def comparison_tables(comparison: Comparison, scores: dict[str, str]) -> Group:
    """Return a table for each score: a row per method, in percent; they fit into 80 columns."""
    parts: list[Any] = [Text(_head(comparison, visible))]
    for score, title in scores.items():
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for place, name in enumerate(_titles(comparison, "\n", visible)):
            table.add_column(Text(name), justify="left" if place == 0 else "right", no_wrap=place > 0, overflow="fold")
        for row in comparison.rows:
            table.add_row(*map(Text, _cells(comparison, row, score, "\n", visible)))
        parts += [table]
    return Group(*parts, Text(_notes(comparison), style="dim"))


def comparison_markdown(comparison: Comparison, scores: dict[str, str]) -> str:
    """Return the same tables in Markdown."""
    lines = [_head(comparison, markdown), ""]
    for score, title in scores.items():
        titles = _titles(comparison, " ", markdown)
        lines += [f"{title}, percent:", "", _line(titles), _line(["---", *["---:"] * (len(titles) - 1)])]
        lines += [_line(_cells(comparison, row, score, "; ", markdown)) for row in comparison.rows]
        lines.append("")
    return "\n".join([*lines, _notes(comparison)]) + "\n"


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return all scores of all methods as JSON values, floats rounded to six decimals."""
    details = comparison.details
    methods = []
    for row in comparison.rows:
        scores = {
            name: {**score, **dict(zip(("low", "high"), row.intervals.get(name, (None, None)), strict=True))}
            for name, score in row.scores.items()
        }
        apart = None
        if row.differences is not None:
            apart = {name: {**asdict(one), "excludes_zero": one.excludes_zero} for name, one in row.differences.items()}
        methods.append(
            {
                "name": row.name,
                "runs": [str(run.place) for run in row.runs],
                "seeds": [run.seed for run in row.runs],
                "scores": scores,
                "differences": apart,
                "pairing": row.pairing,
            }
        )
    shared = {key: details[key] for key in ("dataset", "test_rows", "shots", "ece", "confidence")}
    head = {"baseline": comparison.baseline, "margin": comparison.margin}
    found: dict[str, Any] = rounded({**head, **shared, "methods": methods})
    return found


def _titles(comparison: Comparison, separator: str, name: Show) -> list[str]:
    level = f"{comparison.details['confidence']['level']:.0%}"
    return [*_COLUMNS, f"{level} interval", f"minus {name(comparison.baseline)}{separator}[{level} interval]"]


def _cells(comparison: Comparison, row: Row, score: str, separator: str, name: Show) -> list[str]:
    found, (low, high) = row.scores[score], row.intervals[score]
    mean, deviation = found["mean"], found["std"]
    assert mean is not None
    value = f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")
    apart = "-" if row.differences is None else separator.join(_apart(comparison, row.differences[score]))
    return [name(row.name), str(found["n"]), value, f"[{100 * low:.2f}, {100 * high:.2f}]", apart]


def _apart(comparison: Comparison, one: Difference) -> list[str]:
    """Return a difference with its interval, what it rests on, and what is shown by it."""
    assert one.p_holm is not None
    parts = [f"{100 * one.value:+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}]"]
    if one.covers == "rows":
        parts.append("test rows only")
    elif not one.excludes_zero:
        parts.append("does not exclude 0")
    parts.append(_p(one.p_holm))
    if comparison.margin is not None and one.p_equivalent_holm is not None:
        shown = one.p_equivalent_holm < 1.0 - comparison.details["confidence"]["level"]
        parts.append(f"{'comparable' if shown else 'not shown comparable'}, {_p(one.p_equivalent_holm)}")
    return parts


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _head(comparison: Comparison, name: Show) -> str:
    details = comparison.details
    counts = details["imbalance"]["counts"]
    return (
        f"{name(details['dataset'])}: {len(counts)} classes, {sum(counts)} training rows "
        f"({max(counts)} to {min(counts)} per class), {details['test_rows']} test rows; {details['shots']['text']}."
    )


def _notes(comparison: Comparison) -> str:
    """Explain how means, intervals and differences are computed, and what the intervals leave out."""
    resamples = comparison.details["confidence"]["resamples"]
    sizes = [len(row.runs) for row in comparison.rows]
    others = [row for row in comparison.rows if row.differences is not None]
    notes = []
    if max(sizes) > 1:
        notes.append(
            "Mean ± sample standard deviation over runs. Intervals: Student's t on the runs' values, with the variance "
            f"of the test rows added ({resamples} resamples within each class, the same for all) and Satterthwaite's "
            "degrees of freedom."
        )
    if any(row.pairing == "paired" and len(row.runs) > 1 for row in others):
        notes.append("Differences pair the runs of one seed.")
    if any(row.pairing == "independent" for row in others):
        notes.append("Where two groups have other seeds their runs are not paired (Welch).")
    if min(sizes) == 1:
        notes.append(
            f"With a single run the interval is of the test rows only (percentiles of {resamples} resamples) and says "
            "nothing of other seeds."
        )
    if others:
        count = "1 comparison" if len(others) == 1 else f"{len(others)} comparisons"
        notes.append(f"p: of no difference, two-sided, corrected for {count} (Holm); intervals are not corrected.")
    if comparison.margin is not None and others:
        notes.append(
            f"Comparable: within ±{100 * comparison.margin:g} points, by two one-sided tests corrected likewise."
        )
    return " ".join(notes)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
