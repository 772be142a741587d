"""Searches that claims compare, 12 seeds each on a truth table's long tail: docs/results/search-claims.md.

    python experiments/search_claims.py tables/cifar10-lt-16.yaml --data DIR --plan
    python experiments/search_claims.py tables/cifar10-lt-16.yaml --data DIR

The searches are those of `seeds_results.py`, which lends what it has made of the same name, and DARTS with re-sampled
rows. Each distinct cell is trained alone as a row of tables/NAME-claims, which takes over the rows of the first table
and of NAME-seeds. The rule of the verdicts was decided before any result: docs/decisions/0039.
"""

from __future__ import annotations

import argparse
import sys

from experiment_command import run
from seeds_methods import MACS, RANDOM, Epochs, Method, Tree, darts, methods
from seeds_results import Experiment, done, opened_table, searches_parser
from seeds_search import Searches

from imbnas.truth.places import Table

SAMPLERS = ("class-balanced", "square-root", "reversed")
DARTS, HLRS, FAIR, SELF_SUPERVISED = "DARTS", "HLRS", "FairDARTS", "FairDARTS, self-supervised"
NAME = "claims"
"""Of the table of the cells, behind that of the first table."""


def sampled(sampler: str) -> str:
    """Return the name of DARTS on rows that a sampler draws."""
    return f"{DARTS}, {sampler} sampling"


def claimed(epochs: Epochs, retrain: Tree) -> dict[str, Method]:
    """Return the searches by name."""
    every = methods(epochs, retrain)
    samplers = {sampled(one): Method(darts(epochs, {"sampler": {"name": one}})) for one in SAMPLERS}
    first = {name: every[name] for name in (DARTS, HLRS, FAIR, SELF_SUPERVISED)}
    return {**first, **samplers, MACS: every[MACS], RANDOM: every[RANDOM]}


def experiment(table: Table, condition: str, epochs: Epochs, seeds: int, trainings: int) -> Experiment:
    """Return the experiment, whose searches are kept where those of `seeds_results.py` are."""
    searches = Searches(table, condition, epochs)
    searches.methods = claimed(epochs, table.tree(condition)["retrain"])
    return Experiment(searches, epochs, seeds, trainings, NAME)


def main() -> int:
    """Do what is missing and write the page, or print the plan."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Do what is missing and return the page, or the plan."""
    table, log = opened_table(options, ("search",), "claims")
    own = experiment(table, options.condition, Epochs(search=options.search), options.seeds, options.trainings)
    from search_claims_page import write_claims

    return done(own, options, log, write_claims)


def _options() -> argparse.Namespace:
    return searches_parser(__doc__, "docs/results/search-claims.md", count=12).parse_args()


if __name__ == "__main__":
    sys.exit(main())
