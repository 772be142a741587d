"""From the scores of `inheritance.py` to its page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from inheritance import HANDED, JOINT, LOSSES, PAIRS, SCRATCH

from imbnas import page_record
from imbnas.longtail.student import Estimate, holm, mean_of_runs

DEFAULT = "deferred re-weighting"
LEVEL = 0.95
Scores = np.ndarray
HEAD = """# Inherited weights: final trainings from the supernet and from scratch

`make inheritance` at commit {commit}, {processor}, {threads} thread(s), {seeds} seeds.

**Rule, fixed before the first result.** `retrain.init` becomes `handed` only if handed minus scratch, with the loss
that is then the default, is above 0 for the chosen networks on every pair below. `retrain.loss` becomes another one
only if it minus deferred re-weighting, both from scratch, is above 0 on every pair. Above 0 means p < 0.05 after Holm's
correction for a pair's comparisons of that kind. Where source and target share classes the source holds balanced rows
of the tail's classes: there, handed counts only if handed minus the rival that trains from scratch on the rows of
source and target together is not below 0 in the same sense. Otherwise the defaults stay.

Each seed has a supernet of its own, adapted by a new head and searched by evolution; all arms of a seed train the
same chosen network and the same references, a random one of equal cost and the largest. An arm's epochs are those, of
the ones listed, at which its chosen network, trained without references, had the best balanced accuracy on the
validation rows, over the first {tuning} seed(s); where they are the longest of the list, more might be better.
Learning rates are 0.1 from scratch and 0.02 for inherited weights. The validation rows chose the architecture too,
for all arms alike. Figures are balanced accuracy on the test rows in percent, means over seeds. Differences are
paired by seed; their 95 % intervals are Student's t over the seeds on these test rows, and say nothing of other test
rows. Seconds are those of the step `retrain` with all its networks; handed needs a supernet, from scratch one is
needed for the choice alone. They are wall time, and the pairs were run side by side on two cores with other work: read
them as orders of magnitude.
"""


def page(seeds: int, tuning: int, found: dict[str, Any]) -> str:
    """Return the page: rule, how it was made, a section per pair, and what the rule says."""
    commit = page_record.commit()
    first = next(iter(found.values()))
    head = HEAD.format(
        commit=commit, processor=first["processor"], threads=first["threads"], seeds=seeds, tuning=tuning
    )
    sections = [_section(name, pair) for name, pair in found.items()]
    return "\n".join([head, *sections, _verdict(found)])


def chosen(arm: dict[str, Any]) -> Scores:
    """Return the chosen network's score of each seed, in percent."""
    return 100.0 * np.array([cell["test"]["final"] for cell in arm["cells"]])


def references(arm: dict[str, Any]) -> Scores:
    """Return the mean score of the references of each seed, in percent."""
    return 100.0 * np.array(
        [np.mean([score for name, score in cell["test"].items() if name != "final"]) for cell in arm["cells"]]
    )


def families(pair: dict[str, Any]) -> dict[str, dict[str, Estimate]]:
    """Return the paired differences of the chosen networks, by kind of comparison: each kind is one family."""
    return _differences(pair, chosen)


def _differences(pair: dict[str, Any], of: Callable[[dict[str, Any]], Scores]) -> dict[str, dict[str, Estimate]]:
    arms = {(arm["start"], arm["loss"]): of(arm) for arm in pair["arms"]}
    rest = [loss for loss in LOSSES if loss != DEFAULT]
    found = {
        "handed minus scratch": {loss: mean_of_runs(arms[HANDED, loss] - arms[SCRATCH, loss]) for loss in LOSSES},
        f"minus {DEFAULT}, from scratch": {
            loss: mean_of_runs(arms[SCRATCH, loss] - arms[SCRATCH, DEFAULT]) for loss in rest
        },
    }
    if (JOINT, DEFAULT) in arms:
        found["handed minus source and target rows"] = {
            loss: mean_of_runs(arms[HANDED, loss] - arms[JOINT, loss]) for loss in LOSSES
        }
    return found


def corrected(family: dict[str, Estimate]) -> dict[str, float]:
    """Return the p values of a family after Holm's correction."""
    return dict(zip(family, holm([float(one.p()) for one in family.values()]), strict=True))


def _section(name: str, pair: dict[str, Any]) -> str:
    rows = []
    for arm in pair["arms"]:
        lengths = ", ".join(map(str, PAIRS[name].lengths[arm["start"]]))
        seconds = np.mean([cell["seconds"] for cell in arm["cells"]])
        scores = [f"{of(arm).mean():.1f}" for of in (chosen, references)]
        rows.append([arm["start"], arm["loss"], f"{arm['epochs']} of {lengths}", *scores, f"{seconds:.0f}"])
    head = ["weights", "loss", "epochs", "chosen", "references", "seconds"]
    alike, lines = _differences(pair, references), []
    for kind, family in families(pair).items():
        p = corrected(family)
        for loss, one in family.items():
            lines.append([kind, loss, figure(one), f"{p[loss]:.3f}", figure(alike[kind][loss])])
    before = ", ".join(f"{step} {seconds:.0f}" for step, seconds in pair["before"].items())
    shared = (
        "\nSource and target share their classes: the source held balanced rows of the tail's classes.\n"
        if PAIRS[name].shares_classes
        else ""
    )
    return (
        f"## {name}\n\n{pair['rows']['validation']:,} validation and {pair['rows']['test']:,} test rows; seconds of "
        f"the steps before, of the last seed: {before}.\n{shared}\n{_table(head, rows, 3)}\n"
        + _table(["difference", "loss", "chosen", "p", "references"], lines, 2)
    )


def figure(one: Estimate) -> str:
    """Return a difference with its interval, as text."""
    low, high = one.ends(LEVEL)
    return f"{float(one.value):+.1f} [{float(low):+.1f}, {float(high):+.1f}]"


def _above(family: dict[str, Estimate], loss: str) -> bool:
    return float(family[loss].value) > 0.0 and corrected(family)[loss] < 0.05


def _below(family: dict[str, Estimate], loss: str) -> bool:
    return float(family[loss].value) < 0.0 and corrected(family)[loss] < 0.05


def decision(found: dict[str, Any]) -> tuple[str, str]:
    """Return the loss and the init that the rule makes defaults."""
    every = [families(pair) for pair in found.values()]
    better = [
        loss
        for loss in LOSSES
        if loss != DEFAULT and all(_above(each[f"minus {DEFAULT}, from scratch"], loss) for each in every)
    ]
    gains = {loss: sum(float(each[f"minus {DEFAULT}, from scratch"][loss].value) for each in every) for loss in better}
    loss = max(better, key=lambda name: gains[name]) if better else DEFAULT
    rival = "handed minus source and target rows"
    handed = all(
        _above(each["handed minus scratch"], loss) and not (rival in each and _below(each[rival], loss))
        for each in every
    )
    return loss, "handed" if handed else "scratch"


def _verdict(found: dict[str, Any]) -> str:
    missing = [name for name in PAIRS if name not in found]
    if missing:
        return f"## What the rule says\n\nNothing yet: it asks for all pairs, and {', '.join(missing)} is missing.\n"
    loss, init = decision(found)
    return f"## What the rule says\n\nThe default of `retrain.init` is {init}, and the loss is {loss}.\n"


def _table(head: list[str], rows: list[list[str]], texts: int) -> str:
    marks = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *rows]) + "\n"
