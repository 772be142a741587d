"""Regret on NAS-Bench-201: random search, evolution and DARTS, looked up in the published table.

`python benchmarks/regret.py TABLE --data DIR` writes docs/results/regret.md. Regret is the best cell's accuracy minus
that of the found one, in points. The tabular methods see the accuracies that they are judged by, so that theirs is the
least regret that a budget of so many trainings allows; DARTS never sees one. With --data, a directory that holds
CIFAR-10 as torchvision reads it, DARTS searches first, once for each of --searches seeds; finished searches are not run
again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from imbnas.cell_graph import OPERATIONS
from imbnas.files import write_bytes
from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.run.runner import run_step
from imbnas.search.archive import Archive, Score
from imbnas.search.lookup import COLUMNS, read_accuracies
from imbnas.search.methods import Field, evolution, random_search
from imbnas.spaces.chain import Outline
from imbnas.spaces.cost import Cost
from imbnas.spaces.nasbench201 import NasBench201Space, to_string
from imbnas.spaces.networks import Architecture

ROOT = Path(__file__).resolve().parents[1]
SPACE = NasBench201Space(Outline(16, 1, (16, 32, 64), (5, 5, 5), (1, 2, 2), None))
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


def best_of(accuracies: dict[Architecture, float], search: Callable[[Field, Archive], None]) -> float:
    """Return the accuracy of the best cell that a search has looked up."""

    def score(architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, Score]]:
        for architecture in architectures:
            yield architecture, Score(accuracies[architecture])

    archive = Archive(score, lambda architecture: Cost(0, 0))
    search(Field(SPACE, lambda architecture: True, SPACE.sample), archive)
    return archive.value(archive.ranked()[0].architecture)


def interval(values: list[float]) -> str:
    """Return the mean and the half-width of its 95 % interval (Student's t), in points."""
    points = [100.0 * value for value in values]
    if len(points) < 2:
        return f"{points[0]:.2f}"
    error = stats.t.ppf(0.975, len(points) - 1) * statistics.stdev(points) / len(points) ** 0.5
    return f"{statistics.mean(points):.2f} ± {error:.2f}"


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


def tabular(accuracies: dict[Architecture, float], budgets: list[int], seeds: int) -> list[str]:
    """Return the table's rows of random search and evolution."""
    best, rows = max(accuracies.values()), []
    for budget in budgets:
        for name, method in _methods(budget).items():
            regrets = [best - best_of(accuracies, method(seed)) for seed in range(seeds)]
            rows.append(f"| {name} | {budget} | {seeds} | {interval(regrets)} |")
    return rows


def free(accuracies: dict[Architecture, float]) -> list[str]:
    """Return the table's rows of what costs no training: the mean over all cells, and the most expensive cell."""
    best = 100.0 * max(accuracies.values())
    costs = SPACE.cost_table((32, 32, 3), 10)
    largest = max(accuracies, key=lambda cell: (costs.cost(cell).macs, costs.cost(cell).params))
    mean = 100.0 * statistics.mean(accuracies.values())
    return [
        f"| one random cell, expected | 0 | all cells | {best - mean:.2f} |",
        f"| the cell with most MACs | 0 | 1 | {best - 100.0 * accuracies[largest]:.2f} |",
    ]


def _methods(budget: int) -> dict[str, Callable[[int], Callable[[Field, Archive], None]]]:
    """Return the methods that a budget of trainings allows, by name."""

    def at_random(seed: int) -> Callable[[Field, Archive], None]:
        return lambda field, archive: random_search(field, archive, budget, seed)

    def bred(seed: int) -> Callable[[Field, Archive], None]:
        size = min(20, budget // 2)
        return lambda field, archive: evolution(
            field,
            archive,
            population=size,
            generations=budget // size,
            parents=max(1, size // 2),
            mutation=0.2,
            seed=seed,
        )

    return {"random search": at_random} | ({"evolution": bred} if budget >= 4 else {})


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
        f"# Regret on NAS-Bench-201, {options.dataset}",
        "",
        f"Made by `make regret`. The best of {len(accuracies):,} cells has {100 * max(accuracies.values()):.2f} % test",
        "accuracy in the published table. Regret is how far a found cell is below it, in points, with 95 % intervals",
        "(Student's t). Random search and evolution look up the same accuracies that judge them, so theirs is the",
        "least regret possible with so many trainings.",
        "",
        "| method | networks trained | runs | regret in points |",
        "|---|---:|---:|---:|",
        *free(accuracies),
        *tabular(accuracies, options.budgets, options.seeds),
    ]
    if found:
        lines += [
            *differentiable(accuracies, found, options.epochs),
            "",
            f"DARTS: first order, {options.epochs} epochs, one cell per stage, CIFAR-10 at 16x16 pixels, at most",
            "500 rows per class; it trains only its own network. Its budget is the MACs of such a search divided by",
            f"those of a training of {TRAINED_EPOCHS} epochs on the same rows and skeleton; seconds are processor",
            "time.",
            *cells(accuracies, found),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Search where data is given, look up, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV of all cells and their accuracies, may be compressed")
    parser.add_argument("--dataset", choices=list(COLUMNS), default="cifar10")
    parser.add_argument("--seeds", type=int, default=20, help="runs of the tabular methods")
    parser.add_argument("--budgets", type=int, nargs="+", default=[1, 2, 10, 100])
    parser.add_argument("--data", type=Path, help="directory of CIFAR-10, on which DARTS then searches")
    parser.add_argument("--searches", type=int, default=3, help="seeds of DARTS, for each ratio")
    parser.add_argument("--epochs", type=int, default=50, help="of a search")
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks/runs/regret")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/regret.md")
    options = parser.parse_args()
    accuracies = read_accuracies(options.table, options.dataset)
    found = []
    for seed in range(options.searches if options.data else 0):
        for ratio in RATIOS:
            params = parameters(options.data.resolve(), seed, ratio, options.epochs)
            found.append(search(options.folder / f"{ratio:g}" / str(seed), params))
            print(f"seed {seed}, ratio {ratio:g}: {to_string(found[-1].architecture)}", flush=True)
    write_bytes(options.output, document(options, accuracies, sorted(found, key=lambda one: one.ratio)).encode())
    print(f"{options.output}: written")


if __name__ == "__main__":
    main()
