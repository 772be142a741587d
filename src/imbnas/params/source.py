"""Section `source`: the balanced dataset on which the supernet is trained."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from imbnas.params.dataset import DatasetParams, Shape, SourceValidation
from imbnas.params.reuse_options import ReuseParams
from imbnas.params.section import View


class SourceParams(DatasetParams):
    """The balanced source dataset; its images are resized to the target's shape."""

    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Share of each class's rows that the source uses; where the target names the same dataset (for `folder` and
    `list`: with the same root), it takes the others, so that no image is in both."""
    validation: SourceValidation = SourceValidation()
    """Rows that judge the supernet."""

    @model_validator(mode="after")
    def _only_train(self) -> Self:
        for name in ("validation", "test"):
            if getattr(self.splits, name) is not None:
                raise ValueError(
                    f"splits.{name} is set, expected null: the source takes all its rows from splits.train"
                )
        return self


class SourceView(View):
    """The view of the step `source`."""

    source: SourceParams
    target: Shape
    supernet: ReuseParams = ReuseParams()
