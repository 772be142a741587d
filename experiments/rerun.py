"""Runs a small part of the claims' figures again, drawn by a seed, and compares: the same numbers have to come out.

    python experiments/rerun.py --data DIR --seed 7 --plan
    python experiments/rerun.py --data DIR --seed 7

Of each claim a few pieces are drawn from what is kept: trainings of the truth table (C1), supernets with an adaptation
(C2), searches (C3 to C5), discretisation gaps (C8). They are made in a directory of their own, which takes over
nothing. Figures are equal to the last bit on the same kind of processor with the locked packages. A claim whose figures
are not there yet says which command makes them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbnas.errors import UserError
from imbnas.params.truth import architecture_of
from imbnas.progress import Log
from imbnas.run.context import processor_model
from imbnas.seeds import stream
from imbnas.training.turns import finished
from imbnas.truth.data_rows import prepare
from imbnas.truth.places import Table
from imbnas.truth.records import Cell, Records, differences
from imbnas.truth.shards import trained
from imbnas.truth.train_device import device_name
from imbnas.truth.trained_rows import named, read_rows, read_seconds

CELLS, SUPERNETS, SEARCHES, GAPS = 6, 2, 2, 2
"""How many pieces of each claim are drawn."""


@dataclass(frozen=True)
class Piece:
    """A part of a claim's figures: what it is, and how it is made again, which tells in which figures it differs."""

    claim: str
    name: str
    again: Callable[[], str]


@dataclass(frozen=True)
class Place:
    """The files that are compared with, the raw data, the directory for what is made, and the seed of the draws."""

    spec: Path
    results: Path
    data: Path
    work: Path
    seed: int
    pieces: int | None = None
    """How many pieces of each claim are drawn, in place of the usual numbers."""

    @property
    def table(self) -> Table:
        """The table, with working files in the own directory."""
        return Table(self.spec.resolve(), self.work, self.data)

    def drawn(self, claim: str, given: Sequence[Any], count: int) -> list[Any]:
        """Return some of what is given, in its order."""
        places = stream(self.seed, "rerun", claim).permutation(len(given))[: self.pieces or count]
        return [given[place] for place in sorted(places.tolist())]

    def figures(self, page: str) -> dict[str, Any]:
        """Return what is kept of a page; nothing where it is not there."""
        file = self.results / f"{page}.json"
        return dict(json.loads(file.read_text(encoding="utf-8"))["figures"]) if file.exists() else {}


def trainings(place: Place) -> list[Piece]:
    """Return trainings of the truth table's cells."""
    table = place.table
    rows = read_rows(table.beside(".parquet"))
    device = device_name(table.spec.runtime.device)
    own = [row for row in rows if row["device"] == device]

    def again(row: dict[str, Any]) -> str:
        prepare(table)
        records = Records(table, device)
        architecture = architecture_of(row["architecture"])
        assert architecture is not None
        cell = Cell(row["seed"], row["condition"], architecture)
        made = finished(trained(records, cell, Log("rerun"), None, table.spec.runtime.workers, keep=False))
        return differences(row, made)

    return [Piece("C1", named(row), lambda row=row: again(row)) for row in place.drawn("C1", own, CELLS)]  # type: ignore[misc]


def adaptations(place: Place) -> list[Piece]:
    """Return supernets with an adaptation each."""
    kept = place.figures("adapted-heads")
    given = [(name, seed) for name, seeds in kept.get("scores", {}).items() for seed in range(len(seeds))]

    def again(name: str, seed: int) -> str:
        from ablation import other_source
        from ablation_changes import Lengths
        from adapted_heads import Heads

        table = place.table
        other = other_source(place.data, table.spec.source.share)
        if other is None:
            raise UserError(f"--data {place.data}: no CIFAR-100 there, expected cifar100.npz or cifar-100-python")
        prepare(table)
        own = kept["options"]
        heads = Heads(table, own["condition"], Lengths(own["supernet"], own["head"]), other, own["scratch"])
        return unequal(kept["scores"][name][seed], heads.outcome(name, seed).scores.tolist())

    return [
        Piece("C2", f"{name}, supernet {seed}", lambda one=(name, seed): again(*one))  # type: ignore[misc]
        for name, seed in place.drawn("C2", given, SUPERNETS)
    ]


def searches(place: Place) -> list[Piece]:
    """Return searches, whose cells are compared."""
    kept = place.figures("search-claims")
    given = [(name, seed) for name, found in kept.get("cells", {}).items() for seed in range(len(found))]

    def again(name: str, seed: int) -> str:
        from search_claims import experiment
        from seeds_methods import Epochs

        table, own = place.table, kept["options"]
        prepare(table)
        made = experiment(table, own["condition"], Epochs(search=own["search"]), own["seeds"], own["trainings"])
        return unequal(kept["cells"][name][seed], made.searches.found(name, seed)["cells"])

    return [
        Piece("C3 to C5", f"{name}, seed {seed}", lambda one=(name, seed): again(*one))  # type: ignore[misc]
        for name, seed in place.drawn("C3", given, SEARCHES)
    ]


def gaps(place: Place) -> list[Piece]:
    """Return discretisation gaps."""
    kept = place.figures("discretisation-gap").get("searches", {})
    given = [(arm, seed) for arm, found in kept.items() for seed in range(len(found))]

    def again(arm: str, seed: int) -> str:
        from gap import Bench

        made, before = Bench(place.work / "gap").found(arm, seed), kept[arm][seed]
        names = ("continuous", "decoded", "gap", "entropy")
        return unequal([before[name] for name in names], [made[name] for name in names])

    return [
        Piece("C8", f"{arm}, seed {seed}", lambda one=(arm, seed): again(*one))  # type: ignore[misc]
        for arm, seed in place.drawn("C8", given, GAPS)
    ]


CLAIMS: dict[str, tuple[Callable[[Place], list[Piece]], str]] = {
    "C1": (trainings, "make table"),
    "C2": (adaptations, "make adapted-heads"),
    "C3": (searches, "make search-claims"),
    "C8": (gaps, "make gap"),
}
"""The claims of which something can be made again; C4 and C5 are C3's searches, C6 is seconds, and C7's are means."""


def unequal(before: list[Any], after: list[Any]) -> str:
    """Return the first pair that differs; nothing where all are equal."""
    pairs = [f"{a!r}, now {b!r}" for a, b in zip(before, after, strict=False) if a != b]
    return (pairs or [f"{len(before)}, now {len(after)}"] * (len(before) != len(after)) or [""])[0]


def main() -> int:
    """Draw the pieces, make them again unless only the plan is wanted, and return 1 where one differs."""
    options = _options()
    place = Place(
        options.table, options.results, options.data.resolve(), options.work.resolve(), options.seed, options.pieces
    )
    if options.pieces is not None and options.pieces < 1:
        print(f"error: --pieces {options.pieces}: expected at least 1", file=sys.stderr)
        return 2
    if unknown := set(options.claims) - set(CLAIMS):
        print(f"error: --claims {sorted(unknown)[0]}: expected some of {', '.join(CLAIMS)}", file=sys.stderr)
        return 2
    differing = 0
    try:
        _machine(place)
        for claim in options.claims:
            pieces, command = CLAIMS[claim][0](place), CLAIMS[claim][1]
            if not pieces:
                print(f"{claim}: no figures by the piece yet, `{command}` makes them")
            for piece in pieces:
                said = "drawn" if options.plan else ((found := piece.again()) and f"DIFFERS: {found}") or "the same"
                differing += said.startswith("DIFFERS")
                print(f"{piece.claim}, {piece.name}: {said}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if differing else 0


def _machine(place: Place) -> None:
    """Say where the rows were made on another kind of processor than this one."""
    spent = read_seconds(place.table.beside("-seconds.csv")).values()
    made = sorted({row["processor"] for row in spent if row["device"] == "cpu"} - {processor_model()})
    if made:
        print(f"rows were made on {', '.join(made)}, this is {processor_model()}: figures may differ")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?", default=Path("tables/cifar10-lt-16.yaml"))
    parser.add_argument("--data", type=Path, default=Path("datasets/cifar10"), help="raw files, CIFAR-100 beside them")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--pieces", type=int, help="of each claim, in place of 6 trainings and 2 of all others")
    parser.add_argument("--claims", nargs="+", metavar="CLAIM", default=list(CLAIMS), help=f"of {', '.join(CLAIMS)}")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="the figures beside the pages")
    parser.add_argument("--work", type=Path, default=Path(".imbnas/rerun"), help="where everything is made")
    parser.add_argument("--plan", action="store_true", help="print what is drawn, and make nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
