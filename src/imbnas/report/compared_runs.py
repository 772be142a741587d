"""The finished projects that are compared: read, and grouped by name or by all that describes them but their seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from imbnas.errors import UserError
from imbnas.files import TABLE_LIMIT, canonical_json, check_regular, read_json
from imbnas.report.scores import Answers

_EXPECTED = "the output of `imbnas evaluate`"


_COLUMNS = ["network", "row", "label", "predicted", "confidence"]


@dataclass(frozen=True)
class Run:
    """One finished project: where it lies, what its results/details.json holds, and its final network's answers."""

    place: Path
    details: dict[str, Any]
    answers: Answers

    @property
    def seed(self) -> int:
        """The run's seed."""
        seed: int = self.details["seed"]
        return seed

    @property
    def traits(self) -> dict[str, Any]:
        """All that describes the run but its seed; an architecture that was searched for is a result of the seed."""
        details, final = self.details, self.details["networks"]["final"]
        search = {key: details["search"][key] for key in ("method", "objective", "limits")}
        return {
            "dataset": details["dataset"],
            "counts": details["imbalance"]["counts"],
            "space": details["space"],
            "search": search,
            "architecture": final["architecture"] if search["method"] == "fixed" else None,
            "head": final["head"],
            "branches": final["branches"],
            "recipe": details["recipe"],
            "epoch_rule": details["epoch_rule"],
            "logit_adjustment": details["logit_adjustment"]["tau"],
        }


def read_run(place: Path, details: str, predictions: str) -> Run:
    """Return the finished project in `place`; UserError for a missing or foreign file."""
    found = read_json(place / details, _EXPECTED)
    table = _read_predictions(place / predictions)
    columns = [name for name in ("label", "predicted", "confidence", "group") if name in table]
    run = Run(place, found, Answers(*(table[name].to_numpy() for name in columns)))
    try:
        rows = found["test_rows"]
        known = [found[key] for key in ("shots", "ece", "confidence", "seed")] + [found["digests"]["target_test"]]
        canonical_json([run.traits, known])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{place / details}: found no {error} in it, expected {_EXPECTED}, run evaluate") from None
    if table["row"].tolist() != list(range(rows)):
        raise UserError(f"{place / predictions}: found {len(table)} rows, expected the {rows} of {place / details}")
    return run


def _read_predictions(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise UserError(f"{path}: not found, expected {_EXPECTED}")
    try:
        check_regular(path, TABLE_LIMIT)
        found = pd.read_parquet(path)
        # Only a dataset with groups has that column.
        table = found[[*_COLUMNS, *(name for name in ("group",) if name in found)]]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a table of predictions ({str(error).splitlines()[0]}), run evaluate") from None
    return table[table["network"] == "final"]


def grouped_runs(arguments: Sequence[str], details: str, predictions: str) -> dict[str, list[Run]]:
    """Return the runs by group, sorted by seed: named groups as they are named, bare directories by their traits."""
    named: dict[str, list[Run]] = {}
    alike: dict[str, list[Run]] = {}
    order: list[tuple[bool, str]] = []
    for argument in arguments:
        name, mark, places = argument.partition("=")
        if mark and not Path(argument).is_dir():
            if name in named or not name or not all(places.split(",")):
                raise UserError(f"{argument}: expected NAME=DIR,DIR,... with a name of its own and no empty directory")
            named[name] = [read_run(Path(place), details, predictions) for place in places.split(",")]
            order.append((True, name))
        else:
            run = read_run(Path(argument), details, predictions)
            alike.setdefault(canonical_json(run.traits), []).append(run)
            order.append((False, canonical_json(run.traits)))
    _refuse_repeats([*named.values(), *alike.values()], list(alike.values()))
    titles = _titles([group[0] for group in alike.values()])
    names = dict(zip(alike, titles, strict=True))
    groups: dict[str, list[Run]] = {}
    for is_named, key in dict.fromkeys(order):
        name, group = (key, named[key]) if is_named else (names[key], alike[key])
        if name in groups:
            raise UserError(f"group {name}: found twice, expected another name for {group[0].place}")
        groups[name] = sorted(group, key=lambda run: run.seed)
    return groups


def _refuse_repeats(groups: Sequence[Sequence[Run]], guessed: Sequence[Sequence[Run]]) -> None:
    """Raise UserError for a directory given twice, and for runs of one seed in a group that nobody has named."""
    places = [run.place.resolve() for group in groups for run in group]
    for place in places:
        if places.count(place) > 1:
            raise UserError(f"{place}: given twice, expected each run once")
    for group in guessed:
        for first, second in pairwise(sorted(group, key=lambda run: run.seed)):
            if first.seed == second.seed:
                raise UserError(
                    f"{first.place} and {second.place}: both of seed {first.seed} and one recipe, expected runs that "
                    "differ by it, or groups NAME=DIR,DIR,..."
                )


def _titles(runs: Sequence[Run]) -> list[str]:
    """Return a name for each of some runs: what sets it apart from the others, or its loss where there are none."""
    leaves = [dict(_leaves(run.traits)) for run in runs]
    names = dict.fromkeys(name for one in leaves for name in one)
    telling = [name for name in names if len({canonical_json(one.get(name)) for one in leaves}) > 1]
    titles = []
    for run, one in zip(runs, leaves, strict=True):
        parts = [_trait(name, one[name]) for name in telling if one.get(name) is not None]
        titles.append(", ".join(parts) or str((run.details["recipe"] or {}).get("loss", run.place.name)))
    return titles


def _trait(name: str, value: Any) -> str:
    return str(value) if name == "recipe.loss" else f"{name.rpartition('.')[2]} {value}"


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found
