"""Section `study`: the grid of parameters that `snakemake study` runs."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import model_validator

from imbnas.params.base import Section


class StudyParams(Section):
    """A study: the chain once for every combination of the values."""

    axes: dict[str, list[Any]] = {}
    """For each dotted parameter the list of its values; the first is what the others are compared with. The name of a
    section takes mappings, each merged over that section, for parameters that change together."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name, values in self.axes.items():
            texts = [json.dumps(value, sort_keys=True) for value in values]
            if not texts or len(set(texts)) != len(texts):
                raise ValueError(f"axes.{name} is [{', '.join(texts)}], expected at least one value and none twice")
            if name.split(".")[0] == "study":
                raise ValueError(f"axes.{name} is given, expected a parameter outside the study")
        return self
