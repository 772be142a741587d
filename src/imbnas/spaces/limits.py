"""Limits on what an architecture may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, Self

import numpy as np

from imbnas.spaces.cost import Cost

NANOSECONDS = 10**6
"""In a millisecond."""
NAMES = ("max_macs", "max_params", "max_latency")


class Figures(NamedTuple):
    """The figures of a cost that decide where there are limits; one that decides nothing is 0."""

    macs: int
    params: int
    latency: int


@dataclass(frozen=True)
class Limits:
    """Most MACs for one image, most parameters and nanoseconds that a subnet may have; None: no limit.

    `given` is how a person wrote each: for messages alone.
    """

    max_macs: int | None = None
    max_params: int | None = None
    max_latency: int | None = None
    given: tuple[str, str, str] = field(default=("", "", ""), compare=False)

    @classmethod
    def of(
        cls, most: Cost, max_macs: int | str | None, max_params: int | str | None, max_latency: float | str | None
    ) -> Self:
        """Return limits of which each may be a share of what `most` has, such as "0.6x"; milliseconds else.

        Shares are exact, and rounded down.
        """
        macs, params = _resolved(max_macs, most.macs), _resolved(max_params, most.params)
        latency = (
            _resolved(max_latency, most.latency)
            if max_latency is None or isinstance(max_latency, str)
            else round(max_latency * NANOSECONDS)
        )
        shown = None if latency is None else milliseconds(latency)
        given = (_words(max_macs, macs), _words(max_params, params), _words(max_latency, shown))
        return cls(macs, params, latency, given)

    @property
    def words(self) -> tuple[str, str, str]:
        """Return the limits as messages name them."""
        latency = None if self.max_latency is None else milliseconds(self.max_latency)
        macs, params, time = self.given
        return macs or str(self.max_macs), params or str(self.max_params), time or str(latency)

    @property
    def named(self) -> list[tuple[str, str, str, int]]:
        """Return those that there are: the parameter, how messages name its value, the figure of a cost, the value."""
        found = [(name, words, getattr(self, name)) for name, words in zip(NAMES, self.words, strict=True)]
        return [(f"search.{n}", w, n.removeprefix("max_"), limit) for n, w, limit in found if limit is not None]

    def without(self, figure: str) -> Self:
        """Return the limits on the other figures."""
        macs, params, latency = (None if name == f"max_{figure}" else getattr(self, name) for name in NAMES)
        return type(self)(macs, params, latency)

    def allow(self, cost: Cost) -> bool:
        """Return whether a subnet of this cost is within all limits."""
        return (
            (self.max_macs is None or cost.macs <= self.max_macs)
            and (self.max_params is None or cost.params <= self.max_params)
            and (self.max_latency is None or cost.latency <= self.max_latency)
        )

    def allow_figures(self, macs: np.ndarray, params: np.ndarray, latencies: np.ndarray) -> np.ndarray:
        """Return for each of many costs whether it is within all limits."""
        fits = np.ones(len(macs), dtype=bool)
        for limit, found in ((self.max_macs, macs), (self.max_params, params), (self.max_latency, latencies)):
            if limit is not None:
                fits &= found <= limit
        return fits

    def excess(self, cost: Cost) -> tuple[float, ...]:
        """Return how far a cost is over each limit that there is, as a fraction of it; not above 0 is within."""
        pairs = ((cost.macs, self.max_macs), (cost.params, self.max_params), (cost.latency, self.max_latency))
        return tuple(found / limit - 1.0 for found, limit in pairs if limit is not None)

    def figures(self, cost: Cost) -> Figures:
        """Return what of a cost decides: MACs, and what is limited beside them; parameters where nothing is timed."""
        timed = self.max_latency is not None
        params = not timed or self.max_params is not None
        return Figures(cost.macs, cost.params if params else 0, cost.latency if timed else 0)


def milliseconds(nanoseconds: int) -> str:
    """Return a latency as a person writes it in `search.max_latency`, to the last nanosecond."""
    whole, rest = divmod(nanoseconds, NANOSECONDS)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")


def _resolved(limit: int | str | None, most: int) -> int | None:
    if not isinstance(limit, str):
        return limit
    return math.floor(Fraction(limit.removesuffix("x")) * most)


def _words(limit: float | str | None, resolved: int | str | None) -> str:
    return f"{limit} ({resolved})" if isinstance(limit, str) else ""
