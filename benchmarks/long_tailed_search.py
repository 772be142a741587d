"""Differentiable searches on long-tailed digits, seed by seed: one table with paired intervals.

`python benchmarks/long_tailed_search.py --seeds 5` runs the chain of the preset darts-digits for every method and seed
below --folder and writes docs/results/darts.md. Finished runs are not run again, so that it may be stopped at any
time; one that was under way begins anew, so that its seconds are whole. All methods share data, long tail and, seed by
seed, weights' and batches' random draws.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import multiprocessing
import shutil
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbnas import page_record
from imbnas.files import write_bytes
from imbnas.longtail.difference import Difference, corrected
from imbnas.longtail.intervals import differences, intervals
from imbnas.longtail.resampling import Resampled, resample
from imbnas.longtail.shots import make_rule
from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.report.compared_runs import read_run
from imbnas.run.graph import PATHS
from imbnas.run.runner import run_step
from imbnas.seeds import derive, stream
from imbnas.spaces.registry import make_space

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("source", "target", "imbalance", "supernet", "adapt", "search", "retrain", "evaluate")
SEARCHING = ("supernet", "adapt", "search")
BASE = "darts"
HLRS_NAME = "bilateral darts, cumulative rate (HLRS)"
RANDOM = "a random cell, no search"
SEARCH = "search.darts"
PLAIN: dict[str, Any] = {
    "runtime.threads": 1,
    "source.share": 0.4,
    "retrain.references": False,
    f"{SEARCH}.branches": "one",
    f"{SEARCH}.architecture.schedule": "constant",
}
BILATERAL = {f"{SEARCH}.branches": "bilateral"}
HLRS = {**BILATERAL, f"{SEARCH}.architecture.schedule": "cumulative"}
METHODS: dict[str, dict[str, Any]] = {
    "darts": {},
    "darts, class-balanced sampling": {f"{SEARCH}.sampler.name": "class-balanced"},
    "darts, square-root sampling": {f"{SEARCH}.sampler.name": "square-root"},
    "darts, reversed sampling": {f"{SEARCH}.sampler.name": "reversed"},
    "bilateral darts": BILATERAL,
    HLRS_NAME: HLRS,
    "darts on the adapted head": {"supernet.epochs": 40, "adapt.strategy": "head"},
    RANDOM: {"search.method": "fixed"},
}
"""What each method changes in PLAIN; the first one is what the others are compared with."""


LEVEL = 0.95
MARGIN = 0.01
"""Within it two methods are comparable: a point of balanced accuracy."""


@dataclass(frozen=True)
class Found:
    """What counts of a finished run: its scores, the digest of its test rows, and the seconds of its search."""

    scores: Resampled
    rows: str
    seconds: float


Results = dict[str, list[Found]]


def parameters(method: str, seed: int, ratio: float, epochs: int | None) -> Params:
    """Return the parameters of a run."""
    tree = presets.params("darts-digits").tree()
    changes = {**PLAIN, **METHODS[method], "seed": seed, "imbalance.ratio": ratio}
    if method == RANDOM:
        space = make_space(parse(tree, method).space)
        changes["search.architecture"] = list(space.sample(stream(seed, "long-tailed search", "random cell")))
    if epochs is not None:
        changes |= {f"{SEARCH}.epochs": epochs, "retrain.epochs": epochs, "supernet.epochs": 0}
    for dotted, value in changes.items():
        *sections, leaf = dotted.split(".")
        place = tree
        for section in sections:
            place = place[section]
        place[leaf] = value
    return parse(tree, method)


def run(folder: Path, params: Params) -> Found:
    """Run the chain in `folder` unless it is finished, and return what counts of it.

    Seconds are the processor's, in one thread: what else the machine does then hardly matters.
    """
    done = folder / "done.json"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        seconds = 0.0
        for dataset in (params.source.root, params.target.root):
            (folder / dataset).mkdir(parents=True, exist_ok=True)
        for step in STEPS:
            begin = time.process_time()
            code = run_step(step, params, folder, log_file=folder / "logs" / f"{step}.log")
            if code:
                raise RuntimeError(f"{folder}: step {step} ended with exit code {code}")
            seconds += time.process_time() - begin if step in SEARCHING else 0.0
        write_bytes(done, json.dumps({"seconds": seconds}).encode())
    measured = read_run(folder, PATHS["details"], PATHS["predictions"])
    digest, shots = measured.details["digests"]["target_test"], measured.details["shots"]
    limits = shots["thresholds"] or {"many": 0, "few": 0}
    scores = resample(
        measured.answers.actual,
        [measured.answers.predicted],
        measured.details["imbalance"]["counts"],
        make_rule(shots["rule"], limits["many"], limits["few"]),
        seed=derive(0, "long-tailed search", "bootstrap", digest),
    )[0]
    return Found(scores, digest, json.loads(done.read_text())["seconds"])


def warm_up() -> None:
    """Import what the steps import, so that no run's seconds hold it."""
    for step in STEPS:
        importlib.import_module(f"imbnas.steps.{step}")


def interval(value: float, low: float, high: float) -> str:
    """Return a mean and the half-width of its interval as a person reads them, in points."""
    if high == math.inf:
        return f"{100.0 * value:.1f}"
    # One end may have been cut at 0 or 1.
    return f"{100.0 * value:.1f} ± {100.0 * max(high - value, value - low):.1f}"


def mean(runs: list[Found], score: str) -> str:
    """Return the mean of a score with its interval; nothing where a group has no classes."""
    scores = [one.scores for one in runs]
    if score not in scores[0].values:
        return ""
    value = statistics.mean(one.values[score] for one in scores)
    # An interval of one run would hold no noise of training, which is most of it.
    ends = intervals(scores, LEVEL, own_rows=own_rows(runs))[score] if len(runs) > 1 else (-math.inf, math.inf)
    return interval(value, *ends)


def own_rows(runs: list[Found]) -> bool:
    """Say whether each seed has test rows of its own."""
    return len({one.rows for one in runs}) == len(runs)


def gain(found: Results, method: str, base: str = BASE) -> Difference:
    """Return how much more balanced accuracy a method has than another, seed by seed."""
    runs = [[one.scores for one in found[name]] for name in (method, base)]
    return differences(*runs, LEVEL, "paired", MARGIN, own_rows(found[method]))["balanced_accuracy"]


def points(one: Difference) -> str:
    """Return a difference with its interval."""
    return interval(one.value, one.low, one.high) if one.covers != "rows" else f"{100.0 * one.value:.1f}"


def verdict(one: Difference) -> str:
    """Say whether a difference is shown, by its p value, which is corrected where it is one of a family."""
    p = one.p if one.p_holm is None else one.p_holm
    text = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    if one.covers == "rows" or p >= 1.0 - LEVEL:
        return f"no difference is shown ({text})"
    return f"it is {'better' if one.value > 0 else 'worse'} ({text})"


def claims(found: Results) -> list[str]:
    """Return what the table says of the two claims of arXiv 2406.07028."""
    hlrs = gain(found, HLRS_NAME)
    assert hlrs.p_equivalent is not None
    comparable = "is shown" if hlrs.covers != "rows" and hlrs.p_equivalent < 1.0 - LEVEL else "is not shown"
    lines = [
        "",
        "## The claims of arXiv 2406.07028, as found here",
        "",
        "*DARTS with a bilateral branch and a scheduled rate is comparable to DARTS alone.* "
        f"{HLRS_NAME}: {points(hlrs)} points, {verdict(hlrs)}. That they are comparable, within ±{100 * MARGIN:g} "
        f"point, {comparable} (two one-sided tests, p = {hlrs.p_equivalent:.3f}).",
        "",
        "*Re-sampling harms the search.* The p values are corrected for three comparisons (Holm), the intervals not.",
        "",
    ]
    methods = [method for method in found if method.endswith("sampling")]
    family = corrected([gain(found, method) for method in methods])
    return lines + [
        f"- {method.removeprefix('darts, ')}: {points(one)} points, {verdict(one)}."
        for method, one in zip(methods, family, strict=True)
    ]


def table(found: Results, ratio: float) -> str:
    """Return the document."""
    runs = found[BASE]
    rows = "rows of its own" if own_rows(runs) else "rows that all share, whose variance is added"
    control = gain(found, BASE, RANDOM)
    lines = [
        f"# Differentiable searches on digits, imbalance ratio {ratio:g}",
        "",
        f"Made by `make darts-results`, {len(runs)} seeds, each with its own weights and batches, measured on test",
        f"{rows}. Balanced test accuracy of the derived network, retrained from scratch",
        "by the preset `darts-digits`, in percent; differences are paired by seed, all with 95 % intervals",
        "(Student's t). Seconds are processor time of supernet, adaptation and search together, in one thread, without",
        "start-up.",
        "",
        "| search | balanced accuracy | minus darts | few-shot | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for method, entries in found.items():
        minus = "" if method == BASE else points(gain(found, method))
        seconds = statistics.mean(entry.seconds for entry in entries)
        lines.append(
            f"| {method} | {mean(entries, 'balanced_accuracy')} | {minus} | {mean(entries, 'few')} | {seconds:.0f} |"
        )
    lines += [
        "",
        f"DARTS over a cell drawn at random: {points(control)} points, {verdict(control)}. The gap to this",
        "control shows how much any search matters here.",
    ]
    return "\n".join(lines + claims(found)) + "\n"


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ratio", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks/runs/darts")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/darts.md")
    parser.add_argument("--epochs", type=int, help="of search and retraining, for a trial")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with one thread")
    options = parser.parse_args()
    found: Results = {method: [] for method in METHODS}
    asked = []
    # A process runs one chain after the other: a step sets its threads for the whole process.
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn"), initializer=warm_up) as pool:
        for seed in range(options.seeds):
            for method in METHODS:
                name = method.replace(", ", "-").replace(" ", "-").replace("(", "").replace(")", "")
                params = parameters(method, seed, options.ratio, options.epochs)
                asked.append((seed, method, pool.submit(run, options.folder / name / str(seed), params)))
        for seed, method, answer in asked:
            found[method].append(answer.result())
            score = 100.0 * found[method][-1].scores.values["balanced_accuracy"]
            print(f"seed {seed}, {method}: {score:.1f}", flush=True)
    page_record.write_page(options.output, table(found, options.ratio), "make darts-results")


if __name__ == "__main__":
    main()
