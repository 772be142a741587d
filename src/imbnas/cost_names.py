"""The costs of a network that a search knows, as tables, sentences and figures name them; torch is not needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CostName:
    """The names of one cost.

    `figure`: the field of `spaces.cost.Cost`, and what follows `tau_`. `column`: of tables, and of JSON objects.
    `words`: in sentences. `heading`: above a column in a terminal. `axis`: along an axis of a figure. `unit`: behind a
    number, which is the figure divided by `scale`; at a scale of 1 it stays a whole number.
    """

    figure: str
    column: str
    words: str
    heading: str
    axis: str
    unit: str
    scale: int = 1

    def value(self, cost: object) -> int | float:
        """Return the number of the column."""
        found: int = getattr(cost, self.figure)
        return found if self.scale == 1 else found / self.scale


MACS = CostName("macs", "macs", "MACs", "MACs", "multiply-accumulate operations for one image", "MACs")
PARAMS = CostName("params", "params", "parameters", "params", "parameters", "parameters")
LATENCY = CostName("latency", "latency_ms", "latency", "ms", "predicted latency of one pass, ms", "ms", 10**6)
ENERGY = CostName("energy", "energy_nj", "energy", "nJ", "arithmetic's energy for one image, nJ", "nJ", 10**9)
ALWAYS = (MACS, PARAMS)
"""Costs that every search knows."""
BESIDE = (LATENCY, ENERGY)
"""Costs that a search knows where blocks were timed, and where a multiplier is approximate and its energy known. They
come before MACs, in this order, where the cheapest is looked for.
"""


def beside(costs: Iterable[object]) -> list[CostName]:
    """Return what some networks cost besides operations and parameters: what is above 0 for any of them."""
    listed = list(costs)
    return [name for name in BESIDE if any(getattr(cost, name.figure) for cost in listed)]


def named_in(columns: Iterable[str]) -> list[CostName]:
    """Return the costs besides operations and parameters whose columns a table or a JSON object has."""
    found = set(columns)
    return [name for name in BESIDE if name.column in found]


def rounded(value: float) -> str:
    """Return a number to three digits, large ones to the unit."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spoken(words: Sequence[str]) -> str:
    """Return words as a sentence lists them: "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
