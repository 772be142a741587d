"""A score's difference with its interval and p values, and families of differences, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from imbnas.longtail.student import holm

Covers = Literal["seeds and rows", "seeds", "networks and rows", "rows"]
"""Whose noise is in an interval. `rows`: there is one run. `seeds`: each run has test rows of its own, whose noise is
in the runs' values already."""


@dataclass(frozen=True)
class Difference:
    """A score's difference, the ends of its interval, and p values: of no difference, and of more than a margin."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided, of a true difference of 0."""
    covers: Covers
    """Whose noise is in them."""
    p_equivalent: float | None = None
    """Of a true difference beyond the margin, on either side (two one-sided tests); None without a margin."""
    p_holm: float | None = None
    """`p`, corrected for the number of comparisons, see `corrected`."""
    p_equivalent_holm: float | None = None
    """`p_equivalent`, corrected likewise."""

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0.0 or self.high < 0.0


def corrected(family: Sequence[Difference]) -> list[Difference]:
    """Return the differences of a family of comparisons with p values corrected for their number (Holm 1979).

    Intervals stay those of one comparison.
    """
    plain = holm([one.p for one in family])
    same = [one.p_equivalent for one in family if one.p_equivalent is not None]
    margin: Sequence[float | None] = holm(same) if len(same) == len(family) else [None] * len(family)
    return [replace(one, p_holm=p, p_equivalent_holm=q) for one, p, q in zip(family, plain, margin, strict=True)]
