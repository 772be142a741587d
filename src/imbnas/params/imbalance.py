"""Section `imbalance`: which training rows the long-tailed target keeps."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.dataset import FileName, RootPath, Validation
from imbnas.params.section import Section, View, short
from imbnas.params.shared import Positive


class ImbalanceParams(Section):
    """The long-tailed choice of training rows."""

    profile: Literal["exponential", "step", "pareto", "natural", "counts"] = "exponential"
    """Course of the class counts; `natural` keeps every row, `counts` reads them from a file."""
    ratio: Annotated[float, Field(gt=0.0)] = 20.0
    """Imbalance ratio n_max / n_min, above 1; a value in (0, 1) is taken as its inverse; 1 is balanced."""
    n_max: Positive | None = None
    """Rows of the largest class; null takes the most that every class allows."""
    order: Literal["native", "reversed", "shuffled"] = "native"
    """Which class is the head: the first (the literature's choice), the last, or a seeded shuffle."""
    counts: FileName | None = None
    """For the profile `counts`: a text file below `target.root` with one number per class, in label order."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Chooses the rows within each class; 0 gives the published CIFAR-10-LT and CIFAR-100-LT subsets."""

    @model_validator(mode="after")
    def _file(self) -> Self:
        if (self.profile == "counts") != (self.counts is not None):
            raise ValueError(
                f"profile is {self.profile} and counts is {short(self.counts)}, expected a file for counts only"
            )
        return self


class TargetFacts(Section):
    """The part of `target` that the step needs."""

    root: RootPath
    """See `target.root`: the counts file lies below it."""
    validation: Validation
    """See `target.validation`."""


class ImbalanceView(View):
    """The view of the step `imbalance`."""

    imbalance: ImbalanceParams
    target: TargetFacts
