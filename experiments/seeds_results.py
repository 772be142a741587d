"""What search methods find on a truth table's long tail, seed by seed: docs/results/seeds.md.

    python experiments/seeds_results.py tables/cifar10-lt-16.yaml --data DIR --plan
    python experiments/seeds_results.py tables/cifar10-lt-16.yaml --data DIR

First all searches, then a training of each distinct cell with each training seed, as rows of a truth table beside the
first one, which lends the rows that it has. The rule of what counts as better was decided before any result:
docs/decisions/0030. What is finished is not computed again, so that the command may be killed and given again; to
search on several cores, give it several times with other methods behind --only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from experiment_command import run
from seeds_methods import APPROXIMATE, DRAWS, Epochs, Method, Tree
from seeds_search import Searches
from seeds_table import SEEDS, each_training, lacking, rows_of, tables_of, train, write_spec
from shared_steps import turn
from table_options import check_names, check_options, table_parser

from imbnas.data.stored import read_info
from imbnas.progress import Log
from imbnas.truth.data_rows import prepare
from imbnas.truth.places import Table
from imbnas.truth.shards import opened

MIXTURE = 3.0
"""About how many times the time of a cell the mixture of all operations takes, for the plan."""
SLOWER = 1.9
"""About how many times a training takes under an approximate multiplier, by docs/results/approximation.md."""


@dataclass(frozen=True)
class Experiment:
    """The searches, and how often each is made and each cell trained."""

    searches: Searches
    epochs: Epochs
    seeds: int
    trainings: int
    name: str = SEEDS
    """Of the table of the cells, behind the first table's."""

    @property
    def first(self) -> Table:
        """The table whose data, recipe and rows are shared."""
        return self.searches.table

    def search(self, names: list[str], log: Log) -> None:
        """Make the searches that are missing, seed by seed."""
        for seed in range(self.seeds):
            for name in names:
                found = self.searches.found(name, seed)
                log(f"seed {seed}, {name}: {', '.join(found['cells']) or 'a network'} ({found['seconds']:.0f} s)")

    def cells(self) -> list[str]:
        """Return the distinct cells of all searches, in the order in which they were found first."""
        found = [self.searches.found(name, seed) for seed in range(self.seeds) for name in self.searches.methods]
        return list(dict.fromkeys(cell for one in found for cell in one["cells"]))

    def train(self, log: Log, share_rows: bool) -> Table:
        """Train what is missing, in float32 as rows of the table and under the multipliers, and return the table."""
        own = write_spec(self.first, self.condition, self.cells(), self.trainings, self.name)
        lenders = [one for one in tables_of(self.first, self.condition) if one.file != own.file] if share_rows else []
        train(lenders, own, log)
        for seed in range(self.seeds):
            for name in self.approximate:
                found = self.searches.under_multiplier(name, seed)
                log(f"seed {seed}, {name}, trained under it: {found['test']:.4f}")
        return own

    def plan(self, log: Log) -> str:
        """Return what is done and left, with hours on one thread."""
        each, source = each_training(self.first, self.condition, log)
        lines, hours = [], 0.0
        for name, method in self.searches.methods.items():
            kept = [found for seed in range(self.seeds) if (found := self.searches.kept(name, seed))]
            one = mean(found["seconds"] for found in kept) if kept else self._expected(method, each)
            left = self.seeds - len(kept)
            hours += left * one / 3600
            origin = "measured" if kept else "estimated"
            lines.append(f"{name}: {len(kept)} of {self.seeds} searches done, {one:.0f} s each ({origin})")
        left, words = self._trainings_left()
        emulated = len(self.approximate) * self.seeds
        lines += [
            f"trainings of cells: {words}, {each:.0f} s each ({source})",
            *([f"trainings under a multiplier: at most {emulated}, about {SLOWER * each:.0f} s each"] * bool(emulated)),
            f"in all at most {hours + (left + SLOWER * emulated) * each / 3600:.1f} hours on one thread",
        ]
        return "\n".join(lines)

    def _trainings_left(self) -> tuple[int, str]:
        if self.searched:
            cells = self.cells()
            left = lacking(self.first, self.condition, cells, self.trainings)
            return left, f"{left} left of {len(cells) * self.trainings}"
        kinds = [method.kind for method in self.searches.methods.values()]
        most = (self.seeds * (kinds.count("cell") - 1 + DRAWS) + 1) * self.trainings
        return most, f"at most {most}, for searches that all end with other cells"

    @property
    def searched(self) -> bool:
        """Whether all searches are done."""
        return all(self.searches.kept(name, seed) for name in self.searches.methods for seed in range(self.seeds))

    def _expected(self, method: Method, each: float) -> float:
        """Return about how many seconds a search takes, by those of a final training."""
        epoch = each / self.first.spec.retrain.epochs
        descends = method.changes.get("search", {}).get("method") == "darts"
        seconds = MIXTURE * self.epochs.search * epoch * method.passes if descends else 0.0
        if method.changes.get("adapt", {}).get("strategy") == "head":
            files = self.first.files(self.condition)
            source, tail = read_info(files["source_train"]).rows, sum(opened(self.first).rows[self.condition].counts)
            # Two methods share a seed's supernet.
            seconds += epoch * (self.epochs.head + self.epochs.supernet * source / tail / 2)
        return seconds

    @property
    def condition(self) -> str:
        """The condition of the searches and of the trainings."""
        return self.searches.condition

    def measured(self, own: Table) -> Tree:
        """Return everything that the page is written from."""
        find, under = self.searches.found, self.searches.under_multiplier
        return {
            "rows": rows_of(own),
            "found": {name: [find(name, seed) for seed in range(self.seeds)] for name in self.searches.methods},
            "under": {name: [under(name, seed) for seed in range(self.seeds)] for name in self.approximate},
        }

    @property
    def approximate(self) -> list[str]:
        """The methods that search under a multiplier."""
        return [name for name in self.searches.methods if name in APPROXIMATE]


def main() -> int:
    """Do what is missing and write the page, or print the plan."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Do what is missing and return the page, or the plan."""
    table, log = opened_table(options, ("supernet", "head", "search"), "seeds")
    epochs = Epochs(options.supernet, options.head, options.search)
    experiment = Experiment(Searches(table, options.condition, epochs), epochs, options.seeds, options.trainings)
    from seeds_page import write_page

    return done(experiment, options, log, write_page)


def opened_table(options: argparse.Namespace, epochs: Sequence[str], name: str) -> tuple[Table, Log]:
    """Return the table, whose rows are made, and the experiment's log; refuse options that do not fit."""
    table = Table(options.table, options.root, options.data)
    check_options(options, table, epochs, ("seeds", "trainings"))
    with turn(table.work / "prepare.lock"):
        prepare(table)
    return table, Log(name)


def done(
    experiment: Experiment,
    options: argparse.Namespace,
    log: Log,
    write: Callable[[Path, Experiment, Table, Tree], None],
) -> str:
    """Do what is missing, write the page and return it; with `--plan` return what is left, with `--only` nothing."""
    names = list(experiment.searches.methods)
    check_names("--only", options.only, names)
    if options.plan:
        return experiment.plan(log)
    experiment.search(options.only or names, log)
    if options.only:
        return ""
    own = experiment.train(log, not options.own_rows)
    write(options.output, experiment, own, experiment.measured(own))
    return str(options.output.read_text(encoding="utf-8"))


def searches_parser(description: str | None, output: str, count: int = 5) -> argparse.ArgumentParser:
    """Return a parser of the options that experiments on searches share, `count` searches of each method by default."""
    parser = table_parser(
        description, "to search and to train under", "searches of each method, two at the least", count
    )
    parser.add_argument("--trainings", type=int, default=3, help="trainings of each cell, two at the least")
    parser.add_argument("--search", type=int, default=Epochs.search, help="epochs of a differentiable search")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="search by these methods alone, and train nothing")
    parser.add_argument("--own-rows", action="store_true", help="take no rows over from other tables")
    parser.add_argument("--plan", action="store_true", help="print what is left, with hours, and do nothing of it")
    parser.add_argument("--output", type=Path, default=Path(output))
    return parser


def _options() -> argparse.Namespace:
    parser = searches_parser(__doc__, "docs/results/seeds.md")
    parser.add_argument("--supernet", type=int, default=Epochs.supernet, help="epochs on the source")
    parser.add_argument("--head", type=int, default=Epochs.head, help="epochs of the supernet's new head")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
