"""The expected cost of a study: jobs of each step, what cells share, and hours from the benchmarks of earlier runs."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from imbnas.errors import visible
from imbnas.params.config import Params
from imbnas.run.graph import STEPS
from imbnas.study.plan import FOLDER, Plan, planned

BENCHMARKS = "benchmarks"


@dataclass(frozen=True)
class Line:
    """One step's line of the plan."""

    step: str
    jobs: int
    made: int
    """How many of the jobs have outputs already; Snakemake says whether those are up to date."""
    seconds: float | None
    """Mean time of a job in earlier runs, None where there were none."""
    runs: int
    """How many runs that is the mean of."""


def lines(params: Params, root: Path) -> tuple[Plan, list[Line]]:
    """Return the plan and a line for each step; UserError for a wrong cell."""
    made = planned(params, "params.yaml")
    found = []
    for step in STEPS:
        times = _seconds(root / BENCHMARKS, step)
        name = STEPS[step].outputs[0]
        there = sum((root / made.place(name, cell)).exists() for cell in made.jobs[step].values())
        mean = sum(times) / len(times) if times else None
        found.append(Line(step, len(made.jobs[step]), there, mean, len(times)))
    return made, found


def print_plan(params: Params, root: Path, console: Console) -> None:
    """Print what `lines` says, in 80 columns."""
    made, found = lines(params, root)
    size = len(made.cells)
    axes = " x ".join(f"{len(values)} {name}" for name, values in params.study.axes.items())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("step", "total")
    jobs, there = sum(line.jobs for line in found), sum(line.made for line in found)
    hours = [line.seconds * (line.jobs - line.made) / 3600 for line in found if line.seconds is not None]
    for title, footer in (
        ("jobs", f"{jobs}"),
        ("made", f"{there}"),
        ("cells per job", ""),
        ("seconds per job", ""),
        ("hours to go", f"{sum(hours):.2f}" if hours else "-"),
    ):
        table.add_column(title, footer, justify="right")
    for line in found:
        rest = "-" if line.seconds is None else f"{line.seconds * (line.jobs - line.made) / 3600:.2f}"
        each = "-" if line.seconds is None else f"{line.seconds:.1f}"
        table.add_row(line.step, f"{line.jobs}", f"{line.made}", f"{size / line.jobs:.3g}", each, rest)
    console.print(Group(Text(visible(f"{size} cells: {axes}")), table, Text(_note(found, size), style="dim")))


def _note(found: list[Line], size: int) -> str:
    alone = f"Without sharing it would be {size * len(STEPS)} jobs. "
    unknown = [line.step for line in found if line.seconds is None]
    if len(unknown) == len(found):
        return f"{alone}No estimate of hours: no {BENCHMARKS}/*.tsv of earlier runs. Run `snakemake` once for them."
    basis = f"Hours of one job after another, from {sum(line.runs for line in found)} {BENCHMARKS} of earlier runs"
    missing = f"; none for {', '.join(unknown)}" if unknown else ""
    return f"{alone}{basis}{missing}; parameters that differ from those runs' are not allowed for."


def _seconds(folder: Path, step: str) -> list[float]:
    """Return the seconds of a step's earlier runs: in a study if there are any, else in the chain."""
    files = sorted((folder / FOLDER / step).glob("*.tsv")) or [folder / f"{step}.tsv"]
    found = []
    for file in files:
        if file.is_file():
            with file.open(encoding="utf-8", newline="") as stream:
                found += [float(row["s"]) for row in csv.DictReader(stream, delimiter="\t")]
    return found
