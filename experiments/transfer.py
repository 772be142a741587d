"""Ranks of cells on balanced rows beside their ranks on a long tail, from a truth table: docs/results/transfer.md.

    python experiments/transfer.py tables/cifar10-lt-16.parquet --published FILE

Nothing is trained. The rule of the verdict was decided before its figures were computed: docs/decisions/0035. A table
NAME-more.parquet beside the first one is taken along once it holds the same seeds. FILE is NAS-Bench-201's published
table, see `imbnas lookup`; without it the column of the two balanced data sets says so.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from experiment_command import run
from transfer_page import write_transfer
from transfer_power import powers
from transfer_statistics import (
    Interaction,
    centred,
    interaction,
    interval,
    plain_rank_correlation,
    rank_correlation,
    regret,
    seeds_apart,
)

from imbnas.errors import UserError
from imbnas.longtail.metrics import Floats
from imbnas.truth.agreement import RESAMPLES, Figure, Spread, disattenuated, figure, spread
from imbnas.truth.trained_rows import read_rows
from imbnas.truth.whole_seeds import Whole, whole_of

TOP = 5


@dataclass(frozen=True)
class Transfer:
    """What is found of two conditions; what is not defined is None."""

    title: str
    cells: int
    seeds: int
    parts: tuple[Spread, Spread]
    corrected: Figure
    plain: Figure
    pearson: Figure
    apart: Figure
    share: Figure
    test: Interaction | None
    regret: Figure
    regret_validation: Figure | None
    regret_top: Figure

    @property
    def verdict(self) -> str:
        """What the rule of decision 35 says."""
        return verdict(self.corrected, self.regret)


def verdict(corrected: Figure, lost: Figure) -> str:
    """Return the rule's word for a corrected rank correlation and a regret, a share in [0, 1]."""
    if corrected.high < 0.9 and lost.low > 0.005:
        return "supported"
    if corrected.low > 0.95 or lost.high < 0.003:
        return "refuted"
    return "open"


def transfer(table: Whole, conditions: tuple[str, str], columns: tuple[str, str], resamples: int) -> Transfer:
    """Return what the first condition's first column says of the second condition's second column."""
    first, second = (table.scores(name, column) for name, column in zip(conditions, columns, strict=True))
    if len(table.seeds) < 3:
        raise UserError(f"table: holds {len(table.seeds)} whole seed(s), expected 3: two choose and one judges")
    chosen = tuple(
        table.scores(name, column.replace("test", "validation"))
        for name, column in zip(conditions, columns, strict=True)
    )
    cells = first.shape[1]
    after = ", after logit adjustment" if columns[1].startswith("adjusted") else ""

    def share(places: np.ndarray) -> float:
        return interaction(first[:, places], second[:, places]).share

    def of(choosing: tuple[Floats, Floats], top: int = 1) -> Figure:
        return interval(regret(choosing, second, top), cells, resamples)

    return Transfer(
        f"{conditions[0]} to {conditions[1]}{after}",
        cells,
        len(table.seeds),
        (_parts(first), _parts(second)),
        interval(rank_correlation(first, second), cells, resamples),
        interval(plain_rank_correlation(first, second), cells, resamples),
        figure(disattenuated(centred(first), centred(second)), cells, resamples),
        interval(seeds_apart(first, second), cells, resamples),
        figure(share, cells, resamples),
        interaction(first, second),
        of((first, second)),
        of((chosen[0], chosen[1])),
        of((first, second), TOP),
    )


def _parts(scores: Floats) -> Spread:
    return spread(centred(scores), np.arange(scores.shape[1]))


def joined(path: Path, device: str | None = None, precision: str | None = None) -> tuple[Whole, list[Path]]:
    """Return the table at `path`, with further cells beside it where these have the same seeds, and the files."""
    rows = read_rows(path)
    found = whole_of(rows, str(path), device, precision)
    more = path.with_name(f"{path.stem}-more{path.suffix}")
    if more.exists():
        further = read_rows(more)
        try:
            seeds = whole_of(further, str(more), device, precision).seeds
        except UserError:
            seeds = ()
        if set(seeds) >= set(found.seeds):
            return whole_of([*rows, *further], f"{path} and {more}", device, precision), [path, more]
    return found, [path]


def main() -> int:
    """Compute all figures and write the page."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Compute all figures, and write and return the page."""
    table, files = joined(options.table, options.device, options.precision)
    conditions = (options.balanced, options.longtail)
    for name in conditions:
        if name not in table.conditions:
            raise UserError(f"{options.table}: no condition {name}, expected one of {', '.join(table.conditions)}")
    for name in ("resamples", "simulations"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: expected at least 1")
    found = [transfer(table, conditions, ("test", second), options.resamples) for second in ("test", "adjusted_test")]
    control = None
    if options.published:
        from transfer_published import published

        control = published(options.published, table.architectures, options.resamples)
        files.append(options.published)
    size, count = (found[0].cells, found[0].seeds), options.simulations
    power = powers(found[0].parts, found[0].pearson.value, size, count)
    adjusted = powers(found[1].parts, found[1].pearson.value, size, count, ())
    write_transfer(options.output, table, found, control, (power, adjusted), files)
    return str(options.output.read_text(encoding="utf-8"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?", default=Path("tables/cifar10-lt-16.parquet"))
    parser.add_argument("--published", type=Path, help="NAS-Bench-201's table of accuracies, may be compressed")
    parser.add_argument("--balanced", default="balanced", help="the condition that chooses")
    parser.add_argument("--longtail", default="longtail", help="the condition that judges")
    parser.add_argument("--device", help="whose rows, where the table holds several devices'")
    parser.add_argument("--precision", help="of the rows, where the table holds several")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="draws of the cells")
    parser.add_argument("--simulations", type=int, default=400, help="tables for each figure of the power")
    parser.add_argument("--output", type=Path, default=Path("docs/results/transfer.md"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
