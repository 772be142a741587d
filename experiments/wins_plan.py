"""The plan of `wins.py`: the jobs that are left, and about how many hours they take on one thread."""

from __future__ import annotations

from statistics import mean

from study_jobs import Jobs
from wins_chain import RIVALS, Wins

from imbnas.params.config import Params

PASS = 51.0 / (24 * 4958)
"""Seconds of an image's training pass through a cell, by the mean training of the first truth table."""
FORWARD = 1 / 3
"""A pass without gradients, as a share of one with them."""
SOURCE, TEST, FIGURES = 25_000, 10_000, 10.0
PATHS = {"fair": 5, "sandwich": 4, "uniform": 1}


def plan(wins: Wins) -> str:
    """Return the jobs that are left by their step, with hours; trainings that depend on results are upper bounds."""
    left: dict[str, dict[str, tuple[Jobs, int]]] = {}
    for jobs, cell, last in wins.tasks():
        for step, digest in jobs.left(cell, last).items():
            left.setdefault(step, {})[digest] = (jobs, cell)
    lines, hours = [], 0.0
    for step, own in left.items():
        done = _measured(wins.searches, step)
        each = [mean(done) if done else expected(jobs.cells[cell], step) for jobs, cell in own.values()]
        hours += sum(each) / 3600
        origin = "measured" if done else "estimated"
        lines.append(f"{step}: {len(own)} jobs left, {mean(each):.0f} s each ({origin})")
    setting = wins.setting
    most = setting.seeds * len(setting.limits) * (len(RIVALS) + setting.finalists)
    one = expected(wins.rivals.cells[0], "retrain") + expected(wins.rivals.cells[0], "evaluate")
    lines += [
        f"trainings of free choices and finalists: at most {most}, {one:.0f} s each (estimated)",
        f"in all at most {hours + most * one / 3600:.1f} hours on one thread",
    ]
    return "\n".join(lines)


def expected(params: Params, step: str) -> float:
    """Return about how many seconds a job takes."""
    imbalance, networks = params.imbalance, params.retrain.references.count + 1
    largest = imbalance.n_max or 5000
    tail = sum(largest * imbalance.ratio ** (-k / 9) for k in range(10))
    if step == "supernet":
        return PASS * SOURCE * params.supernet.epochs * PATHS.get(params.supernet.sampling, 1)
    if step == "adapt":
        return PASS * tail * params.adapt.head.epochs * PATHS.get(params.adapt.sampling, 1) * FORWARD
    if step == "search":
        search = params.search
        judged = 10 * params.target.validation.per_class + search.calibration.rows
        candidates = search.population * search.generations if search.method == "evolution" else search.candidates / 50
        return PASS * FORWARD * candidates * judged
    if step == "retrain":
        return PASS * tail * params.retrain.epochs * networks
    return PASS * FORWARD * TEST * networks + FIGURES if step == "evaluate" else FIGURES


def _measured(jobs: Jobs, step: str) -> list[float]:
    """Return what the jobs of a step have taken."""
    return [jobs.seconds(cell, step) for cell in range(len(jobs.cells)) if jobs.done(cell, step)]
