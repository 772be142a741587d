"""Tables and figures of a study, from the cells whose results are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from imbnas.csv_text import csv_cell
from imbnas.data.stored import write_table
from imbnas.errors import UserError
from imbnas.files import remove_parts, write_bytes
from imbnas.params.config import Params
from imbnas.progress import Log
from imbnas.report.page import Block, percent, write_page
from imbnas.run.graph import STEPS
from imbnas.study.against_chance import against_chance
from imbnas.study.differences import Answers, over_runs, pairs
from imbnas.study.figures import draw_pairs, draw_scores
from imbnas.study.plan import FOLDER, Plan, levels, planned, title
from imbnas.study.results import SCORES, Grid, results, summary

GROUPS = ("many", "medium", "few")


def collect(params: Params, root: Path, log: Log, missing: Mapping[str, Sequence[str]] | None = None) -> int:
    """Write study/*.parquet, *.csv, *.html and figures/ and return how many cells are not finished.

    `missing` holds, by step, the jobs that are not done, whatever lies in their place. Cells with such a job or without
    results are left out, and listed with the first step that is not done. Raises UserError when no cell is finished.
    """
    made = planned(params, "params.yaml")
    stops = [_stop(made, cell, root, missing or {}) for cell in range(len(made.cells))]
    finished = [cell for cell, stop in enumerate(stops) if stop is None]
    combinations, axes = levels(params), params.study.axes
    grid, margin = Grid(made, combinations, axes, finished, root), params.study.margin
    states = [_state(grid, cell, stops[cell]) for cell in range(len(stops))]
    _csv(root / FOLDER / "cells.csv", pd.DataFrame(states))
    for cell, stop in enumerate(stops):
        if stop is not None:
            log(f"not finished: cell {cell} ({title(combinations[cell])}), see logs/{FOLDER}/{stop}.log")
    if not finished:
        raise UserError(f"{FOLDER}: none of the {len(stops)} cells is finished, expected at least one")
    _write(grid, margin, len(stops), root / FOLDER)
    log(f"{len(finished)} of {len(stops)} cells collected in {FOLDER}/results.parquet")
    return len(stops) - len(finished)


def _stop(made: Plan, cell: int, root: Path, missing: Mapping[str, Sequence[str]]) -> str | None:
    """Return the first job of a cell that is not done, as step/digest; None when the cell is finished."""
    jobs = made.cells[cell]
    for step in STEPS:
        if jobs[step] in missing.get(step, ()):
            return f"{step}/{jobs[step]}"
    if _there(made, cell, root, "evaluate"):
        return None
    return next(f"{step}/{jobs[step]}" for step in STEPS if not _there(made, cell, root, step))


def _there(made: Plan, cell: int, root: Path, step: str) -> bool:
    return all((root / made.place(name, cell)).exists() for name in STEPS[step].outputs)


def _state(grid: Grid, cell: int, stop: str | None) -> dict[str, Any]:
    jobs = {f"job_{step}": digest for step, digest in grid.plan.cells[cell].items()}
    return {"cell": cell, **grid.shown(cell), "finished": stop is None, "stopped_at": stop or "", **jobs}


def _write(grid: Grid, margin: float | None, total: int, folder: Path) -> None:
    for place in (folder, folder / "figures"):
        remove_parts(place)
    table = results(grid)
    spread = summary(grid, table)
    answers = Answers(grid)
    compared = pairs(grid, answers)
    mean = over_runs(grid, answers, compared, margin)
    compared = compared.drop(columns="partner")
    write_table(folder / "results.parquet", pa.Table.from_pandas(table, preserve_index=False))
    chance = against_chance(grid, answers)
    for name, frame in (("summary", spread), ("pairs", compared), ("differences", mean), ("references", chance)):
        _csv(folder / f"{name}.csv", frame)
    figures = folder / "figures"
    draw_scores(figures / "scores.png", table, grid.settings, ["balanced_accuracy"], "balanced accuracy")
    draw_scores(figures / "groups.png", table, grid.settings[:2], GROUPS, "recall")
    level = float(table["level"].iloc[0])
    draw_pairs(figures / "pairs.png", compared, mean, grid.settings, level)
    blocks = [_chosen(grid, total, spread), _differing(grid, mean, level)]
    blocks += [_beside_chance(grid, chance, level)] if len(chance) else []
    write_page(folder / "table.html", "Study", blocks)


def _chosen(grid: Grid, total: int, spread: pd.DataFrame) -> Block:
    """Return the summary: percent, mean and sample standard deviation over the seeds."""
    final = spread[spread["network"] == "final"]
    rows = [
        [*(str(row[name]) for name in grid.settings), str(row["runs"]), *(_spread(row, score) for score in SCORES)]
        for _, row in final.iterrows()
    ]
    scores = [score.replace("_", " ") for score in SCORES]
    unfinished = total - len(grid.finished)
    note = f"{len(grid.finished)} of {total} cells" + (
        f"; {unfinished} not finished: study/cells.csv" * bool(unfinished)
    )
    return Block("The chosen network, percent", [*grid.settings, "runs", *scores], rows, note, len(grid.settings))


def _beside_chance(grid: Grid, chance: pd.DataFrame, level: float) -> Block:
    """Return the chosen networks beside random ones of their cost."""
    rows = [
        [
            *(str(row[name]) for name in (*grid.settings, "score", "runs")),
            _plus_minus(row),
            f"[{percent(row['low'])}, {percent(row['high'])}]",
            row["covers"],
            f"{row['p']:.3f}",
            f"{row['beaten']} of {row['networks']}",
        ]
        for _, row in chance.iterrows()
    ]
    columns = [*grid.settings, "score", "runs", "difference", f"{level:.0%} interval", "covers", "p", "above"]
    note = (
        "The chosen network minus the mean of its random references, mean ± sample standard deviation over the seeds. "
        "Intervals: Student's t of the seeds' differences, with the variance of the test rows where runs share them; "
        "of a single run with several references one of prediction. An interval that holds 0 cannot tell whether the "
        "search beat chance."
    )
    return Block("Against random networks of equal cost, percent", columns, rows, note, len(grid.settings) + 1)


def _differing(grid: Grid, mean: pd.DataFrame, level: float) -> Block:
    """Return the differences over the seeds, with what they rest on."""
    names = [*grid.settings, "axis", "against", "score", "runs"]
    margin = "margin" in mean.columns
    rows = []
    for _, row in mean.iterrows():
        ends = f"[{percent(row['low'])}, {percent(row['high'])}]"
        parts = [_plus_minus(row), ends, row["covers"], f"{row['p_holm']:.3f}"]
        parts += [f"{row['p_equivalent_holm']:.3f}"] if margin else []
        rows.append([*(str(row[name]) for name in names), *parts])
    columns = [*names, "difference", f"{level:.0%} interval", "covers", "p"]
    note = (
        "Mean ± sample standard deviation over the seeds. Intervals: Student's t, with the variance of the test rows "
        "where runs share them; of a single run that of the rows only. p: of no difference, corrected for all "
        "comparisons of one axis by one score (Holm)."
    )
    if margin:
        within = 100 * float(mean["margin"].iloc[0]) if len(mean) else 0.0
        columns.append(f"p, beyond ±{within:g}")
        note += " The last column is small where a difference is shown to be smaller than the margin."
    return Block("Differences, percent", columns, rows, note, len(names) - 1)


def _spread(row: pd.Series, score: str) -> str:
    return _plus_minus({"mean": row[f"{score}_mean"], "std": row[f"{score}_std"]})


def _plus_minus(row: Mapping[str, Any] | pd.Series) -> str:
    return percent(row["mean"]) + (f" ± {percent(row['std'])}" if pd.notna(row["std"]) else "")


def _csv(path: Path, frame: pd.DataFrame) -> None:
    # Names of axes and their values are the user's.
    frame = frame.map(csv_cell).rename(columns=csv_cell)
    write_bytes(path, frame.to_csv(index=False, float_format="%.6f", lineterminator="\n").encode())
