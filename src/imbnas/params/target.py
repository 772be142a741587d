"""Section `target`: the dataset for which an architecture is wanted."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.dataset import PUBLISHED, SIZELESS, DatasetParams, Validation
from imbnas.params.medmnist import MEDMNIST
from imbnas.params.section import View, short
from imbnas.params.shared import Side
from imbnas.params.source import SourceParams


class TargetParams(DatasetParams):
    """The target dataset, before any imbalance."""

    image_size: Side | None = None
    """Side of the network's square input in pixels; null keeps the dataset's own; own images (`folder`, `list`, `npz`)
    and `medmnist` require it."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; null keeps the dataset's own (3 for `folder`, `list`, `npz` and `medmnist`)."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.25
    """Share of each class held out as test where the dataset publishes no test split."""
    near_duplicates: Annotated[int, Field(ge=0, le=64)] | None = 24
    """Bits, of 256, in which the perceptual hashes of near-duplicates differ at most; the log and
    data/target/test/near_duplicates.csv name those in different splits of own images (under `verify: full`) and of
    `medmnist`. null looks for none."""
    validation: Validation = Validation()
    """Rows that judge subnets in the search."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return height, width and channels of the network's input."""
        native = PUBLISHED.get(self.dataset)
        side = self.image_size or (native.side if native else 0)
        return side, side, self.channels or (native.channels if native else 3)

    @property
    def compares_looks(self) -> bool:
        """Whether near-duplicates are looked for."""
        return self.near_duplicates is not None and self.dataset in SIZELESS

    @property
    def classes(self) -> int | None:
        """Return the number of classes of a published dataset; of own images it is not known yet."""
        if self.name is not None:
            return len(MEDMNIST[self.name].classes)
        return PUBLISHED[self.dataset].classes if self.dataset in PUBLISHED else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dataset in SIZELESS and self.image_size is None:
            raise ValueError(f"image_size is null for {self.dataset}, expected a number of pixels")
        published, given = self.validation.from_ == "published", self.splits.validation is not None
        if not self.own_splits and published != given:
            raise ValueError(
                f"validation.from is {self.validation.from_} and splits.validation is {short(self.splits.validation)}, "
                "expected a name there if and only if validation.from is published"
            )
        return self


class TargetView(View):
    """The view of the step `target`."""

    target: TargetParams
    source: SourceParams
