"""Models of the metadata in files of networks; they refuse anything unexpected, because nothing is built on trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from imbnas.errors import UserError
from imbnas.files import canonical_json
from imbnas.network_names import PATTERN
from imbnas.params.longtail import ANGULAR
from imbnas.params.section import explain
from imbnas.params.shared import Cost, Count, Side
from imbnas.params.space_options import MOST_BLOCKS, SpaceParams

Described = TypeVar("Described", bound=BaseModel)
MOST_CLASSES = 2**20
LONGEST_NAME = 1000
"""Characters of a class's name."""


class _Meta(BaseModel):
    """A part of the metadata, strict; what a reader has no use for is passed over."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class HeadMeta(_Meta):
    """The head, as `longtail.heads.make_head` takes it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    name: Literal["linear", "cosine", "etf", "ncm"] = "linear"
    scale: Annotated[float, Field(gt=0.0)] | None = None

    @model_validator(mode="after")
    def _scaled(self) -> Self:
        if (self.name in ANGULAR) != (self.scale is not None):
            raise ValueError(f"scale is {self.scale} with name {self.name}, expected one for cosine and etf alone")
        return self


class ImagesMeta(_Meta):
    """The images that a network takes, and their classes."""

    classes: Annotated[
        list[Annotated[str, Field(max_length=LONGEST_NAME)]], Field(min_length=1, max_length=MOST_CLASSES)
    ]
    shape: Annotated[list[Side], Field(min_length=3, max_length=3)]
    mean: list[float]
    std: list[Annotated[float, Field(gt=0.0)]]
    load_side: Annotated[int, Field(gt=0, le=2**14)]
    resize: Literal["cover", "exact", "pad"] = "exact"
    exif_rotation: bool = True
    head: HeadMeta = HeadMeta()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        height, width, channels = self.shape
        if channels not in (1, 3):
            raise ValueError(f"shape is {self.shape}, expected height, width and 1 or 3 channels")
        if self.load_side < max(height, width):
            raise ValueError(f"load_side is {self.load_side}, expected at least the height and width of {self.shape}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != channels:
                raise ValueError(f"{name} has {len(getattr(self, name))} numbers, expected {channels}, one a channel")
        return self


class ArchitectureMeta(_Meta):
    """An architecture and what it costs."""

    architecture: Annotated[list[Count], Field(max_length=MOST_BLOCKS)]
    blocks: Annotated[list[str], Field(max_length=MOST_BLOCKS)]
    macs: Cost
    params: Cost


Weights = Annotated[list[Annotated[list[float], Field(max_length=MOST_BLOCKS)]], Field(max_length=MOST_BLOCKS)]


class MixtureMeta(ArchitectureMeta):
    """An architecture, or a mixture of operations with constant weights in its place."""

    mixture: Weights | None = None
    """Rows of weights, one row per edge; None: a network of one operation per edge, as `architecture` says."""


class ReferenceMeta(ArchitectureMeta):
    """A network to compare with: what it costs more than the chosen one, as a share of that one's MACs."""

    gap: float


class InitSourceMeta(_Meta):
    """The source of inherited weights: its dataset, and how many classes it has, and has in common with the target."""

    dataset: str
    classes: Count
    shared: Count


class InitMeta(_Meta):
    """The weights with which a training began, where they were not new ones."""

    weights: Literal["handed"]
    method: str
    strategy: str
    head: Literal["handed", "new"]
    source: InitSourceMeta | None = None


class ApproximateMeta(_Meta):
    """The multiplier of a network's approximate convolutions, and which these are."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    library: Annotated[str, Field(max_length=LONGEST_NAME)]
    name: Annotated[str, Field(max_length=LONGEST_NAME)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    signed: bool
    relative_energy: Annotated[float, Field(ge=0.0)] | None
    operations: list[str] | None
    skeleton: bool


class TemperatureMeta(_Meta):
    """The number by which logits are divided for calibrated probabilities, or why there is none."""

    value: Annotated[float, Field(gt=0.0, le=1000.0)] | None
    reason: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None
    rows: Count | None = None
    nll: list[float] | None = None
    """Mean negative log-likelihood of these rows without and with it."""


class TeacherMeta(_Meta):
    """The network that the others followed in their training."""

    architecture: Annotated[list[Count], Field(max_length=MOST_BLOCKS)]
    macs: Cost
    params: Cost


class TrainedMeta(ImagesMeta):
    """Metadata that all networks of one training share."""

    space: SpaceParams
    branches: Literal[1, 2] = 1
    dataset: str | None = None
    recipe: dict[str, Any] | None = None
    init: InitMeta | None = None
    teacher: TeacherMeta | None = None
    approximate: ApproximateMeta | None = None
    epoch_rule: str | None = None
    digests: dict[str, str] = {}
    counts: list[Count] | None = None
    trained_counts: list[Count] | None = None

    @model_validator(mode="after")
    def _counted(self) -> Self:
        for name in ("counts", "trained_counts"):
            counts = getattr(self, name)
            if counts is not None and len(counts) != len(self.classes):
                raise ValueError(f"{name} has {len(counts)} numbers, expected {len(self.classes)}, one per class")
        return self


class SubnetMeta(TrainedMeta, MixtureMeta):
    """A single network."""

    temperature: TemperatureMeta | None = None
    """None: of a reference, or written before `retrain` fitted one."""


class ReferencesMeta(TrainedMeta):
    """The networks that the chosen one is compared with, by name; empty if they were not trained."""

    networks: dict[Annotated[str, Field(pattern=PATTERN)], ReferenceMeta] = {}


class RecipeMeta(_Meta):
    """The adaptation of a supernet."""

    strategy: Literal["none", "head", "finetune", "scratch", "implant"]


class SourceMeta(_Meta):
    """The source on which a supernet was trained."""

    dataset: str
    classes: list[str]


class ReusedMeta(_Meta):
    """A supernet that was trained in another project: the digest of its file there."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class SupernetMeta(ImagesMeta):
    """A supernet, trained on the source or adapted to the target."""

    space: SpaceParams
    dataset: str
    digests: dict[str, str]
    reused: ReusedMeta | None = None
    """None where this project has trained it."""


class EpochsMeta(_Meta):
    """The training of a supernet on the source."""

    epochs: Count | None
    """None: not known, of weights that others have published."""


class SourceSupernetMeta(SupernetMeta):
    """A supernet that is trained on the source."""

    recipe: EpochsMeta


class AdaptedMeta(SupernetMeta):
    """A supernet that is adapted to the target."""

    recipe: RecipeMeta
    source: SourceMeta | None = None
    """None where no weight of it was trained on a source."""


class HandedMixtureMeta(AdaptedMeta):
    """A mixture that the search has trained, which began as an adapted supernet."""

    method: str
    mixture: Weights
    training: dict[str, Any]


def described(model: type[Described], meta: dict[str, Any], path: Path) -> Described:
    """Return the metadata of the file at `path` as a model, or raise UserError with one line that names the entry."""
    try:
        return model.model_validate_json(canonical_json(meta))
    except ValidationError as error:
        wrong = explain(error, model, f"{path}: its metadata")
        raise UserError(f"{wrong}; expected a network written by imbnas") from None
