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
from pathlib import Path
from typing import Any

from scipy import stats

from imbnas.files import write_bytes
from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.seeds import stream
from imbnas.spaces.registry import make_space
from imbnas.steps.runner import run_step

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


def run(folder: Path, params: Params) -> dict[str, Any]:
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
        metrics = json.loads((folder / "results/metrics.json").read_text())
        found = {"balanced_accuracy": metrics["balanced_accuracy"], "few": metrics["few"], "seconds": seconds}
        write_bytes(done, json.dumps(found).encode())
    found = json.loads(done.read_text())
    return dict(found)


def warm_up() -> None:
    """Import what the steps import, so that no run's seconds hold it."""
    for step in STEPS:
        importlib.import_module(f"imbnas.steps.{step}")


def spread(values: list[float]) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % interval (Student's t; infinite for one value), in points."""
    mean = 100.0 * statistics.mean(values)
    if len(values) < 2:
        return mean, math.inf
    error = 100.0 * statistics.stdev(values) / len(values) ** 0.5
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * error


def interval(values: list[float]) -> str:
    """Return mean and half-width as a person reads them."""
    return "{:.1f} ± {:.1f}".format(*spread(values))


def gains(found: dict[str, list[dict[str, Any]]], method: str, base: str = BASE) -> list[float]:
    """Return seed by seed how much more balanced accuracy a method has than another."""
    pairs = zip(found[method], found[base], strict=True)
    return [one["balanced_accuracy"] - other["balanced_accuracy"] for one, other in pairs]


def verdict(values: list[float]) -> str:
    """Say whether an interval of differences lies below 0, above 0, or on both sides."""
    mean, half = spread(values)
    if abs(mean) <= half:
        return "no difference is shown"
    return "it is better" if mean > 0 else "it is worse"


def claims(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return what the table says of the two claims of arXiv 2406.07028."""
    lines = [
        "",
        "## The claims of arXiv 2406.07028, as found here",
        "",
        "*DARTS with a bilateral branch and a scheduled rate is comparable to DARTS alone.* "
        f"{HLRS_NAME}: {interval(gains(found, HLRS_NAME))} points, {verdict(gains(found, HLRS_NAME))}.",
        "",
        "*Re-sampling harms the search.*",
        "",
    ]
    return lines + [
        f"- {method.removeprefix('darts, ')}: {interval(gains(found, method))} points, {verdict(gains(found, method))}."
        for method in found
        if method.endswith("sampling")
    ]


def table(found: dict[str, list[dict[str, Any]]], ratio: float) -> str:
    """Return the document."""
    seeds = len(found[BASE])
    control = interval(gains(found, BASE, RANDOM))
    lines = [
        f"# Differentiable searches on digits, imbalance ratio {ratio:g}",
        "",
        f"Made by `make darts-results`, {seeds} seeds, each with its own split, weights and batches. Balanced test",
        "accuracy of the derived network, retrained from scratch by the preset `darts-digits`, in percent;",
        "differences are paired by seed, both with 95 % intervals (Student's t). Seconds are the processor's, of",
        "supernet, adaptation and search together, in one thread; start-up is not in them.",
        "",
        "| search | balanced accuracy | minus darts | few-shot | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for method, entries in found.items():
        scores = [entry["balanced_accuracy"] for entry in entries]
        few = [entry["few"] for entry in entries if entry["few"] is not None]
        minus = "" if method == BASE else interval(gains(found, method))
        seconds = statistics.mean(entry["seconds"] for entry in entries)
        lines.append(f"| {method} | {interval(scores)} | {minus} | {interval(few) if few else ''} | {seconds:.0f} |")
    lines += [
        "",
        f"DARTS over a cell drawn at random: {control} points, {verdict(gains(found, BASE, RANDOM))}. What the control",
        "does not tell from DARTS says how much any search could matter here.",
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
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
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
            print(f"seed {seed}, {method}: {found[method][-1]}", flush=True)
    write_bytes(options.output, table(found, options.ratio).encode())


if __name__ == "__main__":
    main()
