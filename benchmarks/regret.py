"""Regret on NAS-Bench-201: what each search method finds by looking cells up in the published table.

`python benchmarks/regret.py TABLE` writes docs/results/regret.md and its figure. Regret is the best cell's accuracy
minus that of the best one found so far, in points. The methods see the accuracies that judge them, so that theirs is
the least regret that a budget of so many trainings allows; `macs` and `params` look cells up from the most expensive
one down.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from matplotlib.ticker import StrMethodFormatter
from scipy import stats

from imbnas import page_record
from imbnas.report.style import drawing
from imbnas.run.context import processor_model
from imbnas.search.archive import Archive, Score
from imbnas.search.lookup import COLUMNS, read_accuracies
from imbnas.search.methods import Field, evolution, random_search
from imbnas.seeds import stream
from imbnas.spaces.chain import Outline
from imbnas.spaces.cost import Cost
from imbnas.spaces.nasbench201 import NasBench201Space
from imbnas.spaces.networks import Architecture

ROOT = Path(__file__).resolve().parents[1]
SPACE = NasBench201Space(Outline(16, 1, (16, 32, 64), (5, 5, 5), (1, 2, 2), None))
COSTS = SPACE.cost_table((32, 32, 3), 10)
Accuracies = dict[Architecture, float]
Method = Callable[[Field, Archive, int, int], None]
"""A search: it fills an archive within a budget of evaluations, with a seed."""
POPULATION = 20
STYLES = {"params": "--"}
"""Lines that lie on another one."""
SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Budgets that the table shows, as far as the curves reach."""


def _random(field: Field, archive: Archive, budget: int, seed: int) -> None:
    random_search(field, archive, budget, seed)


def _evolution(field: Field, archive: Archive, budget: int, seed: int) -> None:
    size = min(POPULATION, budget)
    evolution(
        field,
        archive,
        population=size,
        generations=-(-budget // size),
        parents=max(1, size // 2),
        mutation=0.2,
        seed=seed,
    )


# Optuna takes half a second to import: each process pays it once.
def _tpe(field: Field, archive: Archive, budget: int, seed: int) -> None:
    from imbnas.search.optuna_methods import tpe

    tpe(field, archive, budget, seed)


def _nsga2(field: Field, archive: Archive, budget: int, seed: int) -> None:
    from imbnas.search.optuna_methods import nsga2

    nsga2(field, archive, min(POPULATION, max(2, budget)), -(-budget // POPULATION), seed)


def by_cost(figure: Callable[[Cost], int]) -> Method:
    """Return the method that takes the most expensive cells first; a seed decides among those of equal cost."""

    @cache
    def figures() -> tuple[list[Architecture], np.ndarray]:
        cells = list(SPACE.enumerate())
        return cells, np.array([figure(COSTS.cost(cell)) for cell in cells])

    def search(field: Field, archive: Archive, budget: int, seed: int) -> None:
        cells, costs = figures()
        order = stream(seed, "regret", "ties").permutation(len(cells))
        ranked = order[np.argsort(-costs[order], kind="stable")].tolist()
        allowed = (cells[place] for place in ranked if field.allowed(cells[place]))
        archive.evaluate(list(islice(allowed, budget)), 0)

    return search


METHODS: dict[str, Method] = {
    "random": _random,
    "evolution": _evolution,
    "tpe": _tpe,
    "nsga2": _nsga2,
    "macs": by_cost(lambda cost: cost.macs),
    "params": by_cost(lambda cost: cost.params),
}


def curve(accuracies: Accuracies, method: Method, budget: int, seed: int) -> np.ndarray:
    """Return the regret after each of `budget` evaluations; a search that ends early keeps its last one."""

    def score(architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, Score]]:
        for architecture in architectures:
            yield architecture, Score(accuracies[architecture])

    archive = Archive(score, COSTS.cost)
    method(Field(SPACE, lambda architecture: architecture in accuracies, SPACE.sample), archive, budget, seed)
    found = np.array([accuracies[architecture] for architecture in archive.entries])[:budget]
    best = np.maximum.accumulate(found)
    return max(accuracies.values()) - np.append(best, np.full(budget - len(best), best[-1]))


_TABLE: Accuracies = {}
"""What `_load` has read, once in each process."""


def _load(table: Path, dataset: str) -> None:
    _TABLE.update(read_accuracies(table, dataset))


def _curves(name: str, budget: int, seeds: Sequence[int]) -> np.ndarray:
    return np.array([curve(_TABLE, METHODS[name], budget, seed) for seed in seeds])


def curves(table: Path, dataset: str, budget: int, seeds: int, jobs: int) -> dict[str, np.ndarray]:
    """Return each method's regrets (seeds, budget)."""
    parts = [range(seeds)[start :: 4 * jobs] for start in range(min(seeds, 4 * jobs))]
    with ProcessPoolExecutor(jobs, get_context("spawn"), _load, (table, dataset)) as pool:
        tasks = {name: [pool.submit(_curves, name, budget, part) for part in parts] for name in METHODS}
        return {name: np.concatenate([task.result() for task in own]) for name, own in tasks.items()}


def interval(values: Sequence[float]) -> str:
    """Return the mean and the half-width of its 95 % interval (Student's t), in points."""
    points = [100.0 * value for value in values]
    if len(points) < 2:
        return f"{points[0]:.2f}"
    error = stats.t.ppf(0.975, len(points) - 1) * statistics.stdev(points) / len(points) ** 0.5
    return f"{statistics.mean(points):.2f} ± {error:.2f}"


def free(accuracies: Accuracies) -> list[str]:
    """Return the table's rows of what costs no training: the mean over all cells, and the most expensive cell."""
    best = 100.0 * max(accuracies.values())
    largest = max(accuracies, key=lambda cell: (COSTS.cost(cell).macs, COSTS.cost(cell).params))
    mean = 100.0 * statistics.mean(accuracies.values())
    return [
        f"| one random cell, expected | 0 | all cells | {best - mean:.2f} |",
        f"| the cell with most MACs | 0 | 1 | {best - 100.0 * accuracies[largest]:.2f} |",
    ]


def draw(path: Path, found: dict[str, np.ndarray]) -> None:
    """Draw the mean regret by the number of evaluations, with the middle half of the seeds as a band."""
    with drawing(path, 7.0, 4.2) as figure:
        axes = figure.subplots()
        for name, regrets in found.items():
            steps = np.arange(1, regrets.shape[1] + 1)
            low, high = 100.0 * np.quantile(regrets, [0.25, 0.75], axis=0)
            (line,) = axes.plot(
                steps, 100.0 * regrets.mean(axis=0), label=name, linewidth=1.6, linestyle=STYLES.get(name, "-")
            )
            axes.fill_between(steps, low, high, alpha=0.15, color=line.get_color(), linewidth=0.0)
        axes.set_title("Regret by the number of cells looked up")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlabel("cells looked up")
        axes.set_ylabel("regret in points")
        axes.set_ylim(0.0, 1.05 * max(100.0 * regrets[:, 0].mean() for regrets in found.values()))
        axes.grid()
        axes.legend()


def document(dataset: str, accuracies: Accuracies, found: dict[str, np.ndarray], head: dict[str, object]) -> str:
    """Return the page."""
    seeds, budget = next(iter(found.values())).shape
    shown = [count for count in SHOWN if count <= budget]
    best, made = (
        100 * max(accuracies.values()),
        "in {seconds:.0f} s ({computed:.0f} s of processor time) with {jobs} processes on {processor}".format(**head),
    )
    lines = [
        f"# Regret on NAS-Bench-201, {dataset}",
        "",
        f"Made by `make regret TABLE=file.csv` at commit {head['commit']} {made}.",
        f"The best of {len(accuracies):,} cells has {best:.2f} % test accuracy in the published table. Regret is how",
        f"far the best of the cells looked up so far is below it, in points: the mean of {seeds} seeds with 95 %",
        "intervals (Student's t). Cells are connected and in their canonical form. The methods look up the accuracies",
        "that judge them, so theirs is the least regret possible with so many trainings. `macs` and `params` look up",
        "the most expensive cells first, ties in random order. [DARTS](regret-darts.md) has a page of its own.",
        "",
        "![regret by the number of cells looked up](regret.png)",
        "",
        "Lines are means, bands hold the middle half of the seeds.",
        "",
        f"| method | {' | '.join(map(str, shown))} |",
        f"|---|{'---:|' * len(shown)}",
        *(
            f"| {name} | {' | '.join(interval(regrets[:, count - 1].tolist()) for count in shown)} |"
            for name, regrets in found.items()
        ),
        "",
        "| without any training | networks trained | runs | regret in points |",
        "|---|---:|---:|---:|",
        *free(accuracies),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Look up, draw, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV of all cells and their accuracies, may be compressed")
    parser.add_argument("--dataset", choices=list(COLUMNS), default="cifar10")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--budget", type=int, default=100, help="cells that each search looks up")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/regret.md")
    options = parser.parse_args()
    begin = time.monotonic()
    accuracies = read_accuracies(options.table, options.dataset)
    found = curves(options.table, options.dataset, options.budget, options.seeds, options.jobs)
    draw(options.output.with_suffix(".png"), found)
    seconds = time.monotonic() - begin
    head = {
        "commit": page_record.commit(),
        "seconds": seconds,
        "computed": sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)),
        "jobs": options.jobs,
        "processor": processor_model(),
    }
    page_record.write_page(options.output, document(options.dataset, accuracies, found, head), "make regret")
    print(f"{options.output}: written, {len(found)} methods x {options.seeds} seeds in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
