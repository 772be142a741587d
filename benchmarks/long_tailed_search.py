"""Differentiable searches on long-tailed digits, seed by seed: one table with paired intervals.

`python benchmarks/long_tailed_search.py --seeds 5` runs the chain of the preset darts-digits for every method and seed
below --folder and writes docs/results/darts.md. What is finished is not run again, so that it may be stopped at any
time. All methods share data, long tail and, seed by seed, weights' and batches' random draws.
"""

from __future__ import annotations

import argparse
import json
import statistics
from copy import deepcopy
from pathlib import Path
from typing import Any

from scipy import stats

from imbnas.files import write_bytes
from imbnas.params import presets
from imbnas.params.config import Params, decode, parse
from imbnas.steps.runner import run_step

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("source", "target", "imbalance", "supernet", "adapt", "search", "retrain", "evaluate")
BASE = "darts"
SEARCH = "search.darts"
PLAIN: dict[str, Any] = {
    "runtime.threads": 1,
    "source.share": 0.4,
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
    "darts, effective-number weights": {f"{SEARCH}.loss": "effective-number", f"{SEARCH}.weighting.defer": 0.0},
    "darts, deferred re-weighting": {f"{SEARCH}.loss": "effective-number", f"{SEARCH}.weighting.defer": 0.8},
    "bilateral darts": BILATERAL,
    "bilateral darts, cumulative rate (HLRS)": HLRS,
    "bilateral darts, symmetric mixing, cumulative rate": {**HLRS, f"{SEARCH}.mixing": "symmetric"},
    "darts on the adapted head": {"supernet.epochs": 40, "adapt.strategy": "head"},
}
"""What each method changes in PLAIN; the first one is what the others are compared with."""


def parameters(method: str, seed: int, ratio: float, epochs: int | None) -> Params:
    """Return the parameters of a run."""
    tree = deepcopy(decode(presets.text("darts-digits")))
    changes = {**PLAIN, **METHODS[method], "seed": seed, "imbalance.ratio": ratio}
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
    """Run the chain in `folder` unless it is finished, and return what counts of it."""
    done = folder / "done.json"
    if not done.exists():
        for dataset in (params.source.root, params.target.root):
            (folder / dataset).mkdir(parents=True, exist_ok=True)
        for step in STEPS:
            code = run_step(step, params, folder, log_file=folder / "logs" / f"{step}.log")
            if code:
                raise SystemExit(code)
        metrics = json.loads((folder / "results/metrics.json").read_text())
        cost = json.loads((folder / "results/cost.json").read_text())["steps"]
        searching = sum(cost[step]["seconds"] for step in ("supernet", "adapt", "search"))
        found = {"balanced_accuracy": metrics["balanced_accuracy"], "few": metrics["few"], "seconds": searching}
        write_bytes(done, json.dumps(found).encode())
    found = json.loads(done.read_text())
    return dict(found)


def interval(values: list[float]) -> str:
    """Return the mean and the half-width of its 95 % interval (Student's t), in points."""
    mean = 100.0 * statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    error = 100.0 * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1f} ± {stats.t.ppf(0.975, len(values) - 1) * error:.1f}"


def table(found: dict[str, list[dict[str, Any]]], ratio: float) -> str:
    """Return the document."""
    seeds = len(found[BASE])
    lines = [
        f"# Differentiable searches on digits, imbalance ratio {ratio:g}",
        "",
        f"Made by `make darts-results`, {seeds} seeds. Balanced test accuracy of the derived network, retrained from",
        "scratch by the preset `darts-digits`, in percent; differences are paired by seed, both with 95 % intervals",
        "(Student's t). Seconds are those of supernet, adaptation and search together.",
        "",
        "| search | balanced accuracy | minus darts | few-shot | seconds |",
        "|---|---|---|---|---|",
    ]
    base = [entry["balanced_accuracy"] for entry in found[BASE]]
    for method, entries in found.items():
        scores = [entry["balanced_accuracy"] for entry in entries]
        few = [entry["few"] for entry in entries if entry["few"] is not None]
        minus = "" if method == BASE else interval([a - b for a, b in zip(scores, base, strict=True)])
        seconds = statistics.mean(entry["seconds"] for entry in entries)
        lines.append(f"| {method} | {interval(scores)} | {minus} | {interval(few) if few else ''} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ratio", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks/runs/darts")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/darts.md")
    parser.add_argument("--epochs", type=int, help="of search and retraining, for a trial")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for seed in range(options.seeds):
        for method, entries in found.items():
            name = method.replace(", ", "-").replace(" ", "-").replace("(", "").replace(")", "")
            params = parameters(method, seed, options.ratio, options.epochs)
            entries.append(run(options.folder / name / str(seed), params))
            print(f"seed {seed}, {method}: {entries[-1]}", flush=True)
    write_bytes(options.output, table(found, options.ratio).encode())


if __name__ == "__main__":
    main()
