"""Section `study`: the grid of parameters that `snakemake study` runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from imbnas.params.section import Section

MOST_CELLS = 10_000
"""Of a study: each takes the whole chain, and a line in its tables."""


class StudyParams(Section):
    """A study: the chain once for every combination of the values."""

    axes: dict[str, list[Any]] = {}
    """For each dotted parameter the list of its values; the first is what the others are compared with. The name of a
    section takes mappings, each merged over that section, for parameters that change together."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Differences in a score below it count as none (0.01: one point): study/differences.csv then tests for that."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name, values in self.axes.items():
            texts = [json.dumps(value, sort_keys=True) for value in values]
            if not texts or len(set(texts)) != len(texts):
                raise ValueError(f"axes.{name} is [{', '.join(texts)}], expected at least one value and none twice")
            if name.split(".")[0] == "study":
                raise ValueError(f"axes.{name} is given, expected a parameter outside the study")
        return self

    @model_validator(mode="after")
    def _few(self) -> Self:
        cells = math.prod(len(values) for values in self.axes.values())
        if cells > MOST_CELLS:
            sizes = " x ".join(str(len(values)) for values in self.axes.values())
            raise ValueError(f"axes: {sizes} values are {cells:,} cells, expected at most {MOST_CELLS:,}")
        return self

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        owners: dict[str, str] = {}
        for name, values in self.axes.items():
            for leaf in sorted({leaf for value in values for leaf in _leaves(name, value)}):
                for other, owner in owners.items():
                    inside = f"{leaf}.".startswith(f"{other}.") or f"{other}.".startswith(f"{leaf}.")
                    if inside and owner != name:
                        raise ValueError(
                            f"axes.{name} sets {leaf} and axes.{owner} sets {other}, expected one axis for a parameter"
                        )
                owners[leaf] = name
        return self


def _leaves(name: str, value: object) -> Iterator[str]:
    """Yield the dotted names of the parameters that a value of an axis sets."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}", item)
    else:
        yield name
