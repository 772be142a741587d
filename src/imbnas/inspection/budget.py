"""Epochs and candidates that fit a chain into a given time."""

from __future__ import annotations

from pathlib import Path

from imbnas.errors import UserError
from imbnas.inspection.minutes import Expectation, expect_unread, expectation, spoken
from imbnas.inspection.unestimated import in_words
from imbnas.params.config import Params, load, parse
from imbnas.params.edit import nested, path_of, set_parameters
from imbnas.params.section import merged

LEAST = {"supernet.epochs": 5, "adapt": 3, "retrain": 10, "search.generations": 3, "search.candidates": 16}
"""What each part keeps however little time there is: with less it would be a formality."""
MOST = 3.0
"""Times the preset's epochs beyond which more time is not used."""


def fit(file: Path, root: Path, budget: float, given: str) -> tuple[dict[str, int], Expectation]:
    """Set epochs and candidates in a parameter file so that the chain takes the `budget`; return them and the time.

    All parts are scaled alike, up to MOST times what the file says and down to LEAST. UserError where even that takes
    longer, or where rows are not known; `given` is what a person wrote.
    """
    params = load(file)
    before = expect_unread(params, root)
    if before.unknown:
        raise UserError(f"--budget {given}: {in_words(before.unknown)}, expected a chain that is, step by step")
    rows = before.rows
    fixed = sum(before.seconds[step] for step in ("source", "target", "imbalance", "evaluate"))
    scaled = max(1e-9, before.total - fixed)
    factor = min(MOST, (budget - fixed) / scaled)
    changed = _scaled(params, factor)
    tree = params.tree()
    for name, value in changed.items():
        tree = merged(Params, tree, nested(path_of(name), value))
    tried = parse(tree, str(file))
    after = expectation(tried, rows, before.pace)
    if after.total > 1.1 * budget:
        raise UserError(
            f"--budget {given}: found less than the {spoken(after.total)} that the fewest epochs take here, expected "
            "at least that, or a smaller target.image_size"
        )
    set_parameters(file, [f"{name}={value}" for name, value in changed.items()])
    return changed, after


def _scaled(params: Params, factor: float) -> dict[str, int]:
    """Return the parameters that decide how long each part takes, times `factor`, but for parts that do nothing."""
    found: dict[str, tuple[int, int]] = {}
    if params.supernet.reuse is None and params.supernet.epochs:
        found["supernet.epochs"] = (params.supernet.epochs, LEAST["supernet.epochs"])
    strategy = params.adapt.strategy
    if strategy != "none" and (epochs := getattr(params.adapt, strategy).epochs):
        found[f"adapt.{strategy}.epochs"] = (epochs, LEAST["adapt"])
    if params.search.judged and params.search.method != "exhaustive":
        bred = params.search.method in ("evolution", "nsga2")
        name = "generations" if bred else "candidates"
        found[f"search.{name}"] = (getattr(params.search, name), LEAST[f"search.{name}"])
    found[f"{params.retrain.acting_name}.epochs"] = (params.retrain.acting.epochs, LEAST["retrain"])
    return {name: max(min(value, least), round(value * factor)) for name, (value, least) in found.items()}
