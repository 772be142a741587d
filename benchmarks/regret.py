"""Regret on NAS-Bench-201: random search, evolution and DARTS, looked up in the published table.

`python benchmarks/regret.py TABLE --darts RUN/results/architecture.json ...` prints a table in Markdown. Regret is the
best cell's accuracy minus that of the found one, in points. The tabular methods see the accuracies that they are judged
by, so that theirs is the least regret that a budget of so many trainings allows; DARTS never sees one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from scipy import stats

from imbnas.search.archive import Archive, Score
from imbnas.search.lookup import COLUMNS, read_accuracies
from imbnas.search.methods import Field, evolution, random_search
from imbnas.spaces.base import Outline
from imbnas.spaces.chain import Architecture
from imbnas.spaces.cost import Cost
from imbnas.spaces.nasbench201 import NasBench201Space, to_string

SPACE = NasBench201Space(Outline(16, 1, (16, 32, 64), (5, 5, 5), (1, 2, 2), None))


def best_of(accuracies: dict[Architecture, float], search: Callable[[Field, Archive], None], folder: Path) -> float:
    """Return the accuracy of the best cell that a search has looked up."""

    def score(architecture: Architecture) -> Score:
        value = accuracies[architecture]
        return Score(value, value, value, 0.0)

    path = folder / "scores.jsonl"
    archive = Archive(path, score, lambda architecture: Cost(0, 0), "accuracy")
    search(Field(SPACE, lambda architecture: True, SPACE.sample), archive)
    path.unlink(missing_ok=True)
    return archive.value(archive.ranked()[0].architecture)


def interval(values: list[float]) -> str:
    """Return the mean and the half-width of its 95 % interval (Student's t), in points."""
    points = [100.0 * value for value in values]
    if len(points) < 2:
        return f"{points[0]:.2f}"
    error = stats.t.ppf(0.975, len(points) - 1) * statistics.stdev(points) / len(points) ** 0.5
    return f"{statistics.mean(points):.2f} ± {error:.2f}"


def main() -> None:
    """Search and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="CSV of all cells and their accuracies")
    parser.add_argument("--dataset", choices=list(COLUMNS), default="cifar10")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budgets", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--darts", type=Path, nargs="*", default=[], help="architecture.json of searches")
    options = parser.parse_args()
    accuracies = read_accuracies(options.table, options.dataset)
    best = max(accuracies.values())
    print(f"Best of {len(accuracies)} cells on {options.dataset}: {100 * best:.2f} %.\n")
    print("| method | networks trained | seeds | regret in points |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for budget in options.budgets:
            population = min(20, budget)
            methods: dict[str, Callable[[int], Callable[[Field, Archive], None]]] = {
                "random search": lambda seed: lambda field, archive: random_search(field, archive, budget, seed),  # noqa: B023
            }
            if budget > population:
                methods["evolution"] = lambda seed: (
                    lambda field, archive: evolution(
                        field,
                        archive,
                        population=population,  # noqa: B023
                        generations=budget // population,  # noqa: B023
                        parents=max(1, population // 2),  # noqa: B023
                        mutation=0.2,
                        seed=seed,
                    )
                )
            for name, method in methods.items():
                regrets = [best - best_of(accuracies, method(seed), Path(folder)) for seed in range(options.seeds)]
                print(f"| {name} | {budget} | {options.seeds} | {interval(regrets)} |", flush=True)
    chosen = [tuple(json.loads(path.read_text())["chosen"]["architecture"]) for path in options.darts]
    if chosen:
        found = interval([best - accuracies[one] for one in chosen])
        print(f"| DARTS | none: one search network | {len(chosen)} | {found} |")
        for one in chosen:
            print(f"\n`{to_string(one)}`: {100 * accuracies[one]:.2f} %")


if __name__ == "__main__":
    main()
