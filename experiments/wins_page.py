"""From what `wins.py` has trained to its page: the chosen network beside random, free and best known ones."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import numpy as np
from trained_networks import Trained
from wins_chain import MACS, RIVALS, Wins

from imbnas import page_record
from imbnas.longtail.student import Estimate, holm, mean_of_runs
from imbnas.run.context import processor_model

LEVEL = 0.95
RANDOM, BEST = "random, equal cost", "best known"
EVERY = "both limits"

PAGE = """# Does the search earn its keep? CIFAR-10-LT, ratio 100

`make wins` at commit {commit}, {processor}: {seeds} seeds of the whole chain with limits of {limits} of the largest
cell's MACs. The source is half of CIFAR-100, the target CIFAR-10-LT with up to {n_max:,} training rows per class, all
at {side} pixels; {supernet} epochs of the supernet with {sampling} paths, {adapt} by {strategy}, {evaluated}
candidates of {method}. Each network is trained alone for {epochs} epochs with {loss}, from scratch, with the seed of
its chain.

**Rule, fixed before the first result.** The search earns its keep if the chosen networks minus the random ones of
equal cost, minus the largest cell within the limit (`macs`), and minus what `params`, `synflow` and `jacobian`
choose, all have intervals above 0. Otherwise this page says by how much not, and what even the best known cell would
reach.

Figures are balanced accuracy on the {test:,} test rows in percent, after the last epoch. Differences are paired by
seed; intervals are 95 %: Student's t over the seeds with the variance of the test rows added. p is corrected by
Holm's method for the comparisons of a table. `{best}` is the ceiling: of the {finalists} cells that look best on the
test rows among all that the chains of a limit trained, each trained with every seed, it is for each seed the one that
is best with the other seeds. These cells were found on the same test rows, so that it is a little too high. One
training of a cell differs from another by {within:.2f} points (standard deviation).

{tables}
## Share of the random references that are beaten

| limit | chosen | {best} |
|---|---:|---:|
{shares}

A choice at random beats half of them. Even the best cell does not beat all: one training of it is compared with one
training of each.

## What the rule says

{verdict}

## Seconds

{seconds}
"""


def gain(first: Sequence[Sequence[Trained]], second: Sequence[Sequence[Trained]]) -> Estimate:
    """Return the mean score of some networks minus that of others, as lists of networks for each seed.

    The error is that over the seeds, and that of the test rows, drawn within each class.
    """
    pairs = list(zip(first, second, strict=True))
    apart = [mean(one.score for one in a) - mean(one.score for one in b) for a, b in pairs]
    labels = pairs[0][0][0].labels
    rows = np.mean(
        [np.mean([o.right for o in a], axis=0) - np.mean([o.right for o in b], axis=0) for a, b in pairs], axis=0
    )
    classes = [rows[labels == label] for label in np.unique(labels)]
    noise = sum(own.var() / len(own) for own in classes) / len(classes) ** 2
    return mean_of_runs(apart, noise)


def shown(one: Estimate) -> str:
    """Return an estimate of a share in percent, with its interval."""
    low, high = one.ends(LEVEL)
    return f"{100 * float(one.value):.2f} [{100 * float(low):.2f}, {100 * float(high):.2f}]"


class Compared:
    """The networks of a limit, or of all together, seed by seed."""

    def __init__(self, wins: Wins, limits: Sequence[str]) -> None:
        """Take what was trained, and the limits that are looked at together."""
        self.wins, self.limits = wins, limits
        self.seeds = range(wins.setting.seeds)
        self.chosen = [[wins.chosen(limit, seed) for limit in limits] for seed in self.seeds]
        self.others = {RANDOM: [[o for limit in limits for o in wins.references(limit, s)] for s in self.seeds]}
        for name in (MACS, *RIVALS):
            self.others[name] = [[wins.rival(name, limit, seed) for limit in limits] for seed in self.seeds]
        self.best = [[wins.best(limit, seed) for limit in limits] for seed in self.seeds]

    def gains(self) -> dict[str, tuple[Estimate, float]]:
        """Return the chosen networks minus each other choice, with p corrected for their number."""
        found = {name: gain(self.chosen, own) for name, own in self.others.items()}
        return dict(
            zip(found, zip(found.values(), holm([float(one.p()) for one in found.values()]), strict=True), strict=True)
        )

    def table(self) -> str:
        """Return the table of the choices."""
        gains = self.gains()
        titles = ["choice", "distinct cells", "balanced accuracy", "chosen minus it", "p", f"{BEST} minus it"]
        lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
        for name, own in {"chosen": self.chosen, **self.others, BEST: self.best}.items():
            cells = [name, str(len({one.cell for seed in own for one in seed}))]
            cells.append(f"{100 * mean(one.score for seed in own for one in seed):.2f}")
            cells += [shown(gains[name][0]), f"{gains[name][1]:.3f}"] if name in gains else ["", ""]
            cells.append("" if name == BEST else shown(gain(self.best, own)))
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def shares(self, networks: list[list[Trained]]) -> Estimate:
        """Return the share of the random references that networks beat, over the seeds; a tie is half a win."""
        found = []
        for seed, own in zip(self.seeds, networks, strict=True):
            wins = [
                0.5 * (one.score > other.score) + 0.5 * (one.score >= other.score)
                for limit, one in zip(self.limits, own, strict=True)
                for other in self.wins.references(limit, seed)
            ]
            found.append(mean(wins))
        return mean_of_runs(found)


def verdict(compared: dict[str, Compared]) -> str:
    """Return what the rule says."""
    lines, every = [], True
    for name, one in compared.items():
        gains = {other: found for other, (found, _) in one.gains().items()}
        above = [other for other, found in gains.items() if float(found.ends(LEVEL)[0]) > 0.0]
        every &= len(above) == len(gains)
        rest = [f"{other} {shown(found)}" for other, found in gains.items() if other not in above]
        room = gain(one.best, one.others[RANDOM])
        lines.append(
            f"- {name}: above {', '.join(above) or 'none'}"
            + (f"; not shown for {', '.join(rest)}" if rest else "")
            + f". The best known cell is {shown(room)} points above the random ones."
        )
    head = "The search earns its keep." if every else "The search does not earn its keep by the rule."
    return head + "\n\n" + "\n".join(lines)


def seconds(wins: Wins) -> str:
    """Return the table of the steps' seconds."""
    lines = ["| step | jobs | mean seconds |", "|---|---:|---:|"]
    jobs = wins.searches
    for step in ("supernet", "adapt", "search", "retrain", "evaluate"):
        own = {jobs.plan.cells[cell][step]: jobs.seconds(cell, step) for cell in range(len(jobs.cells))}
        lines.append(f"| {step} | {len(own)} | {mean(own.values()):.0f} |")
    return (
        "\n".join(lines)
        + f"\n\nWall time on one thread, of a machine that other work may have shared. `retrain` trains "
        f"{wins.setting.random + 2} networks."
    )


def page(wins: Wins) -> str:
    """Return the page."""
    params, setting = wins.searches.cells[0], wins.setting
    compared = {f"limit {limit}": Compared(wins, [limit]) for limit in setting.limits}
    if len(setting.limits) > 1:
        compared[EVERY] = Compared(wins, setting.limits)
    shares = [
        f"| {name} | {shown(one.shares(one.chosen))} | {shown(one.shares(one.best))} |"
        for name, one in compared.items()
    ]
    commit = page_record.commit()
    return PAGE.format(
        commit=commit,
        processor=processor_model(),
        seeds=setting.seeds,
        limits=" and ".join(setting.limits),
        n_max=params.imbalance.n_max or 0,
        side=params.target.image_size,
        supernet=setting.supernet,
        sampling=params.supernet.sampling,
        adapt=f"adaptation of {params.adapt.head.epochs} epochs",
        strategy=params.adapt.strategy,
        evaluated=params.search.population * params.search.generations,
        method=params.search.method,
        epochs=params.retrain.epochs,
        loss=params.retrain.loss,
        test=len(next(iter(wins.known.values())).labels),
        best=BEST,
        finalists=setting.finalists,
        within=100 * wins.within,
        tables="\n".join(f"## {name[0].upper()}{name[1:]}\n\n{one.table()}" for name, one in compared.items()),
        shares="\n".join(shares),
        verdict=verdict(compared),
        seconds=seconds(wins),
    )
