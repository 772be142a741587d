"""Regret of DARTS on NAS-Bench-201, beside the tabular methods of `regret.py`.

`python benchmarks/regret_darts.py TABLE --data DIR` writes docs/results/regret-darts.md. DIR holds CIFAR-10 as
torchvision reads it. DARTS searches once for each of --searches seeds and each imbalance ratio, and never sees an
accuracy of the table; finished searches are not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regret import SPACE, free, interval

from imbnas import page_record
from imbnas.cell_graph import OPERATIONS
from imbnas.files import write_bytes
from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.run.runner import run_step
from imbnas.search.lookup import COLUMNS, read_accuracies
from imbnas.spaces.nasbench201 import to_string
from imbnas.spaces.networks import Architecture

ROOT = Path(__file__).resolve().parents[1]
TRAINED_EPOCHS = 200
"""Epochs of the trainings behind the published accuracies."""
STEPS = ("source", "target", "imbalance", "supernet", "adapt", "search")
RATIOS = (1.0, 100.0)
SETTING: dict[str, Any] = {
    "space.name": "nasbench201",
    "space.stages.repeats": [1, 1, 1],
    "space.last_channels": None,
    "source.share": 0.4,
    "retrain.drop_path": 0.0,
    "supernet.sampling": "uniform",
    "adapt.sampling": "uniform",
    "runtime.threads": 1,
    "target.dataset": "cifar10",
    "target.image_size": 16,
    "target.validation.per_class": 0,
    "imbalance.n_max": 500,
    "search.darts.branches": "one",
    "search.darts.architecture.schedule": "constant",
    "search.darts.batch_size": 64,
}
"""What a search changes in the preset darts-digits: the benchmark's cell once a stage, CIFAR-10 at 16x16 pixels."""


@dataclass(frozen=True)
class Searched:
    """A differentiable search: its seed, its rows' imbalance ratio, the cell and the processor's seconds."""

    seed: int
    ratio: float
    architecture: Architecture
    seconds: float


def parameters(data: Path, seed: int, ratio: float, epochs: int) -> Params:
    """Return the parameters of a search."""
    tree = presets.params("darts-digits").tree()
    changes = {**SETTING, "target.root": str(data), "seed": seed, "imbalance.ratio": ratio}
    for dotted, value in {**changes, "search.darts.epochs": epochs}.items():
        *sections, leaf = dotted.split(".")
        place = tree
        for section in sections:
            place = place[section]
        place[leaf] = value
    return parse(tree, "regret")


def search(folder: Path, params: Params) -> Searched:
    """Run the chain up to `search` in `folder` unless it is finished."""
    done = folder / "done.json"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / params.source.root).mkdir(parents=True)
        seconds = 0.0
        for step in STEPS:
            begin = time.process_time()
            code = run_step(step, params, folder, log_file=folder / "logs" / f"{step}.log")
            if code:
                raise SystemExit(code)
            seconds = time.process_time() - begin
        found = json.loads((folder / "results/architecture.json").read_text())["chosen"]["architecture"]
        write_bytes(done, json.dumps({"architecture": found, "seconds": seconds}).encode())
    kept = json.loads(done.read_text())
    return Searched(params.seed, params.imbalance.ratio, tuple(kept["architecture"]), kept["seconds"])


def equivalents(epochs: int) -> float:
    """Return how many of the published trainings a first-order search of so many epochs costs, in MACs.

    A search network runs all operations of an edge, and its two levels together see each row once an epoch.
    """
    table = SPACE.cost_table((32, 32, 3), 10)
    network = table.fixed.macs + sum(cost.macs for row in table.blocks for cost in row)
    mean = table.fixed.macs + sum(cost.macs for row in table.blocks for cost in row) / len(OPERATIONS)
    return network / mean * epochs / TRAINED_EPOCHS


def differentiable(accuracies: dict[Architecture, float], found: list[Searched], epochs: int) -> list[str]:
    """Return the table's rows of DARTS."""
    best, rows = max(accuracies.values()), []
    for ratio in dict.fromkeys(one.ratio for one in found):
        regrets = [best - accuracies[one.architecture] for one in found if one.ratio == ratio]
        on = "balanced rows" if ratio == 1 else f"rows of imbalance ratio {ratio:g}"
        rows.append(f"| DARTS on {on} | {equivalents(epochs):.2g} | {len(regrets)} | {interval(regrets)} |")
    return rows


def cells(accuracies: dict[Architecture, float], found: list[Searched]) -> list[str]:
    """Return a table of the cells that DARTS chose."""
    lines = ["", "| seed | ratio | accuracy | rank | seconds | cell |", "|---:|---:|---:|---:|---:|---|"]
    for one in found:
        accuracy = accuracies[one.architecture]
        rank = 1 + sum(value > accuracy for value in accuracies.values())
        cell = to_string(one.architecture).replace("|", "\\|")
        lines.append(f"| {one.seed} | {one.ratio:g} | {100 * accuracy:.2f} | {rank:,} | {one.seconds:.0f} | {cell} |")
    chosen = Counter(OPERATIONS[choice] for one in found for choice in one.architecture)
    shares = ", ".join(f"{name} {chosen[name] / len(found):.1f}" for name in OPERATIONS)
    return [*lines, "", f"Operations in a chosen cell, of six: {shares}."]


def document(options: argparse.Namespace, accuracies: dict[Architecture, float], found: list[Searched]) -> str:
    """Return the page."""
    lines = [
        f"# Regret of DARTS on NAS-Bench-201, {options.dataset}",
        "",
        f"Made by `make regret-darts`. The best of {len(accuracies):,} cells has {100 * max(accuracies.values()):.2f}",
        "% test accuracy in the published table. Regret is how far a found cell is below it, in points, with 95 %",
        "intervals (Student's t). [Tabular methods](regret.md) look up the accuracies that judge them; DARTS sees",
        "none.",
        "",
        "| method | networks trained | runs | regret in points |",
        "|---|---:|---:|---:|",
        *free(accuracies),
        *differentiable(accuracies, found, options.epochs),
        "",
        f"First order, {options.epochs} epochs, one cell per stage, CIFAR-10 at 16x16 pixels, at most",
        "500 rows per class; it trains only its own network. Its budget is the MACs of such a search divided by",
        f"those of a training of {TRAINED_EPOCHS} epochs on the same rows and skeleton; seconds are processor",
        "time.",
        *cells(accuracies, found),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Search, look up, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV of all cells and their accuracies, may be compressed")
    parser.add_argument("--dataset", choices=list(COLUMNS), default="cifar10")
    parser.add_argument("--data", type=Path, required=True, help="directory of CIFAR-10, on which DARTS searches")
    parser.add_argument("--searches", type=int, default=3, help="seeds, for each ratio")
    parser.add_argument("--epochs", type=int, default=50, help="of a search")
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks/runs/regret")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/regret-darts.md")
    options = parser.parse_args()
    accuracies = read_accuracies(options.table, options.dataset)
    found = []
    for seed in range(options.searches):
        for ratio in RATIOS:
            params = parameters(options.data.resolve(), seed, ratio, options.epochs)
            found.append(search(options.folder / f"{ratio:g}" / str(seed), params))
            print(f"seed {seed}, ratio {ratio:g}: {to_string(found[-1].architecture)}", flush=True)
    content = document(options, accuracies, sorted(found, key=lambda one: one.ratio))
    page_record.write_page(options.output, content, "make regret-darts")
    print(f"{options.output}: written")


if __name__ == "__main__":
    main()
