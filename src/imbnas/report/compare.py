"""Finished projects against each other: mean and spread over seeds, and differences on the same test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbnas.errors import UserError
from imbnas.files import TABLE_LIMIT, canonical_json, check_regular, read_json
from imbnas.longtail.intervals import Difference, Seeds, corrected, differences, intervals, over_seeds
from imbnas.longtail.resampling import Resampled, resample
from imbnas.longtail.shots import make_rule
from imbnas.report.scores import Answers
from imbnas.seeds import derive

_EXPECTED = "the output of `imbnas evaluate`"
_SEED = derive(0, "compare")
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


@dataclass(frozen=True)
class Row:
    """A method: its runs, mean, deviation and interval of each score, and its differences to the baseline.

    The baseline has no differences. `pairing` says how the runs of both were compared, see `intervals.differences`.
    P values are corrected for all methods that are compared with the baseline by one score.
    """

    name: str
    runs: list[Run]
    scores: dict[str, dict[str, float | int | None]]
    intervals: dict[str, tuple[float, float]]
    differences: dict[str, Difference] | None
    pairing: Seeds | None


@dataclass(frozen=True)
class Comparison:
    """The methods, in the order given, and the details (of the first run) of how all were measured."""

    baseline: str
    rows: list[Row]
    details: dict[str, Any]
    margin: float | None = None
    """Differences below it count as none."""


def compare(
    arguments: Sequence[str],
    details: str,
    predictions: str,
    baseline: str | None = None,
    margin: float | None = None,
) -> Comparison:
    """Compare the final networks of finished projects.

    Args:
        arguments: project directories, or groups NAME=DIR,DIR,... of runs that differ by their seed; bare directories
            are grouped by all that describes them but the seed.
        details: where results/details.json lies in a project.
        predictions: where results/predictions.parquet lies.
        baseline: the group from which the others' differences are taken; None takes the first one.
        margin: for the test of equivalence, see `intervals.differences`.

    Raises:
        UserError: for a file that is missing or another one, runs measured on other test rows, other training counts
            or in another way, and groups that are not what was asked for.
    """
    groups = _groups(arguments, details, predictions)
    runs = [run for group in groups.values() for run in group]
    for run in runs[1:]:
        _check_alike(runs[0], run)
    baseline = baseline if baseline is not None else next(iter(groups))
    if baseline not in groups:
        raise UserError(f"--baseline {baseline}: no such group, expected one of {', '.join(groups)}")
    measured = _resample(runs)
    level = runs[0].details["confidence"]["level"]
    rows = []
    for name, group in groups.items():
        own = [measured[run.place] for run in group]
        base = groups[baseline]
        apart, pairing = None, None
        if name != baseline:
            pairing = _pairing(group, base)
            apart = differences(own, [measured[run.place] for run in base], level, pairing, margin)
        spread = over_seeds([one.values for one in own])
        rows.append(Row(name, group, spread, intervals(own, level), apart, pairing))
    return Comparison(baseline, _corrected(rows), runs[0].details, margin)


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with p values corrected, score by score, for the number of methods that are compared."""
    compared = [row.differences for row in rows if row.differences is not None]
    found: list[dict[str, Difference]] = [{} for _ in compared]
    for score in compared[0] if compared else ():
        for place, one in enumerate(corrected([method[score] for method in compared])):
            found[place][score] = one
    fixed = iter(found)
    return [row if row.differences is None else replace(row, differences=next(fixed)) for row in rows]


def read_run(place: Path, details: str, predictions: str) -> Run:
    """Return the finished project in `place`; UserError for a missing or foreign file."""
    found = read_json(place / details, _EXPECTED)
    table = _read_predictions(place / predictions)
    run = Run(place, found, Answers(*(table[name].to_numpy() for name in ("label", "predicted", "confidence"))))
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
        table = pd.read_parquet(path, columns=_COLUMNS)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a table of predictions ({str(error).splitlines()[0]}), run evaluate") from None
    return table[table["network"] == "final"]


def _groups(arguments: Sequence[str], details: str, predictions: str) -> dict[str, list[Run]]:
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


def _check_alike(first: Run, other: Run) -> None:
    """Raise UserError unless two runs are measured on the same test rows, by the same rules."""
    a, b = first.details, other.details
    both = f"{first.place} and {other.place}"
    if a["digests"]["target_test"] != b["digests"]["target_test"] or not np.array_equal(
        first.answers.actual, other.answers.actual
    ):
        raise UserError(f"{both}: found other test rows in each, expected runs that are measured on the same ones")
    if a["imbalance"]["counts"] != b["imbalance"]["counts"]:
        raise UserError(f"{both}: found other training counts in each, expected the same, on which shot groups depend")
    for key in ("shots", "ece", "confidence"):
        if a[key] != b[key]:
            raise UserError(f"{both}: found other {key} in their details, expected the same parameters of evaluate")


def _resample(runs: Sequence[Run]) -> dict[Path, Resampled]:
    """Return each run's scores on the same resamples of the test rows."""
    details = runs[0].details
    shots, limits = details["shots"], details["shots"]["thresholds"] or {"many": 0, "few": 0}
    measured = resample(
        runs[0].answers.actual,
        [run.answers.predicted for run in runs],
        details["imbalance"]["counts"],
        make_rule(shots["rule"], limits["many"], limits["few"]),
        [run.answers.confidence for run in runs],
        details["ece"]["bins"],
        details["confidence"]["resamples"],
        _SEED,
    )
    return {run.place: one for run, one in zip(runs, measured, strict=True)}


def _pairing(group: Sequence[Run], base: Sequence[Run]) -> Seeds:
    """Return how runs are compared: seed by seed where both groups have the same seeds, else without pairs."""
    return "paired" if [run.seed for run in group] == [run.seed for run in base] else "independent"
