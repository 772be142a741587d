"""A chosen network beside random ones of its cost: does the choice beat chance?

Were the choice no better than chance, the chosen network would be one more random one. Its difference from the mean of
K random ones then has the variance of the networks times 1 + 1 / K, and divided by the estimate of that it follows
Student's t with K - 1 degrees of freedom: a prediction interval. The networks' variance holds how architectures differ,
what a training's draws add to each, and what the test rows add to each. Where chance makes the K look more alike than
the test rows allow, the paired bootstrap of the rows is wider; the interval is the wider one on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from imbnas.errors import UserError
from imbnas.longtail.difference import Difference
from imbnas.longtail.intervals import differences
from imbnas.longtail.resampling import Resampled
from imbnas.longtail.student import Estimate

Verdict = Literal["better", "worse", "cannot tell"]


def mean_of_networks(networks: Sequence[Resampled]) -> Resampled:
    """Return the mean scores of some networks, on the test rows and on each resample of them.

    Raises:
        UserError: for no networks.
    """
    if not networks:
        raise UserError("mean of networks: found none, expected at least one")
    names = [name for name in networks[0].values if all(name in other.values for other in networks)]
    return Resampled(
        {name: float(np.mean([one.values[name] for one in networks])) for name in names},
        {name: np.mean([one.draws[name] for one in networks], axis=0) for name in names},
    )


def against_random(chosen: Resampled, networks: Sequence[Resampled], level: float = 0.95) -> dict[str, Difference]:
    """Return each score's difference, the chosen network minus the mean of random ones, with a prediction interval.

    A single random network says nothing of others: its interval covers the test rows alone.

    Raises:
        UserError: for no networks, or a level out of (0, 1).
    """
    rows = differences([chosen], [mean_of_networks(networks)], level, "fixed")
    number = len(networks)
    if number < 2:
        return rows
    found: dict[str, Difference] = {}
    for name, one in rows.items():
        values = np.array([other.values[name] for other in networks])
        error = np.sqrt(values.var(ddof=1) * (1.0 + 1.0 / number))
        spread = Estimate(np.asarray(one.value), error, np.asarray(number - 1.0))
        low, high = map(float, spread.ends(level))
        found[name] = replace(
            one,
            low=min(low, one.low),
            high=max(high, one.high),
            p=max(float(spread.p()), one.p),
            covers="networks and rows",
        )
    return found


def beaten(chosen: float, networks: Sequence[float]) -> int:
    """Return how many networks the chosen one is above."""
    return sum(chosen > value for value in networks)


def verdict(difference: Difference) -> Verdict:
    """Return whether the chosen network is shown to differ from random ones."""
    if difference.covers == "rows" or not difference.excludes_zero:
        return "cannot tell"
    return "better" if difference.value > 0.0 else "worse"
