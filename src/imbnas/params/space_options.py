"""The section `space`: which networks exist."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from imbnas.params.cell_options import CellChoices, DartsChoices, ImplantChoices
from imbnas.params.ofa_options import DEPTHS, EXPANSIONS, KERNELS, OfaChoices
from imbnas.params.section import Section
from imbnas.params.shared import Depth, Width
from imbnas.params.torchvision_options import TorchvisionChoices

MOST_STAGES = 64
MOST_BLOCKS = 1000
"""Of all stages together."""


class Stem(Section):
    """The first convolution, 3x3."""

    channels: Width = 16
    """Output channels."""
    stride: Literal[1, 2] = 1
    """1 for images up to 64 pixels, 2 for ImageNet's 224."""


class Stages(Section):
    """Stages of choice blocks: one entry per stage in each list."""

    channels: Annotated[list[Width], Field(max_length=MOST_STAGES)] = [16, 32, 64]
    """Output channels of each stage."""
    repeats: Annotated[list[Depth], Field(max_length=MOST_STAGES)] = [2, 2, 2]
    """Choice blocks in each stage."""
    strides: Annotated[list[Literal[1, 2]], Field(max_length=MOST_STAGES)] = [1, 2, 2]
    """Stride of each stage's first block."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        lengths = {len(self.channels), len(self.repeats), len(self.strides)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"channels, repeats and strides have {len(self.channels)}, {len(self.repeats)} and "
                f"{len(self.strides)} entries, expected the same number, at least one"
            )
        if sum(self.repeats) > MOST_BLOCKS:
            raise ValueError(f"repeats add up to {sum(self.repeats)} blocks, expected at most {MOST_BLOCKS}")
        return self


ShuffleBlock = Literal["shuffle3", "shuffle5", "shuffle7", "xception"]


class ShuffleChoices(Section):
    """Options of the `shufflenet` space."""

    choices: list[ShuffleBlock] = list(get_args(ShuffleBlock))
    """The candidates of every choice block, without repetition."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.choices)) != len(self.choices) or not self.choices:
            raise ValueError(f"choices are {self.choices}, expected at least one and none twice")
        return self


class MobileChoices(Section):
    """Options of the `mobile` space."""

    kernels: list[Literal[3, 5, 7]] = [3, 5, 7]
    """Kernel sizes of the depthwise convolution."""
    expansions: list[Annotated[int, Field(ge=1, le=12)]] = [3, 6]
    """Expansion ratios of the inverted residual."""
    skip: bool = True
    """Whether a block that keeps its shape may be left out, so that depth is searched too."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name, values in (("kernels", self.kernels), ("expansions", self.expansions)):
            if len(set(values)) != len(values) or not values:
                raise ValueError(f"{name} are {values}, expected at least one and none twice")
        return self


SpaceName = Literal[
    "shufflenet",
    "mobile",
    "resnet",
    "implant",
    "nasbench201",
    "darts",
    "ofa-mobilenetv3",
    "torchvision",
]
FIXED_SIZES = ("ofa-mobilenetv3", "torchvision")
"""Spaces whose sizes are given: of the section they take their own options alone."""


class SpaceParams(Section):
    """The search space: which networks exist."""

    name: SpaceName = "shufflenet"
    """`shufflenet`: Single Path One-Shot; `mobile`: inverted residuals, searched depth; `resnet`: one CIFAR ResNet;
    `implant`: the same with a searched cell in each stage, for `adapt.strategy: implant`; `nasbench201`: one searched
    cell of six edges, repeated, as in the tabular benchmark; `darts`: a normal and a reduction cell of fourteen edges
    each, stacked; `ofa-mobilenetv3`: Once-for-All's MobileNetV3, whose published supernets `supernet.reuse` reads;
    `torchvision`: one classifier of that library, pretrained where `supernet.reuse` names its checkpoint."""
    stem: Stem = Stem()
    """The first convolution."""
    stages: Stages = Stages()
    """The choice blocks."""
    last_channels: Width | None = 128
    """Width of the final 1x1 convolution, the number of features that the head sees; null: no such convolution."""
    shufflenet: ShuffleChoices = ShuffleChoices()
    """Used when `name` is shufflenet."""
    mobile: MobileChoices = MobileChoices()
    """Used when `name` is mobile."""
    implant: ImplantChoices = ImplantChoices()
    """Used when `name` is implant."""
    nasbench201: CellChoices = CellChoices()
    """Used when `name` is nasbench201."""
    darts: DartsChoices = DartsChoices()
    """Used when `name` is darts, which takes nothing else but the stem's stride."""
    ofa: OfaChoices = OfaChoices()
    """Used when `name` is ofa-mobilenetv3, which takes nothing else."""
    torchvision: TorchvisionChoices = TorchvisionChoices()
    """Used when `name` is torchvision, which takes nothing else."""

    @model_validator(mode="after")
    def _skeleton(self) -> Self:
        if self.name == "nasbench201":
            first, strides = self.stages.channels[0], [1] + [2] * (len(self.stages.strides) - 1)
            if first != self.stem.channels or self.stages.strides != strides or self.last_channels is not None:
                raise ValueError(
                    f"stages.channels begin with {first}, stages.strides are {self.stages.strides} and last_channels "
                    f"is {self.last_channels}, expected {self.stem.channels} (stem.channels), {strides} and null: "
                    "the skeleton of nasbench201"
                )
        return self

    @model_validator(mode="after")
    def _widths(self) -> Self:
        if self.name == "shufflenet":
            odd = [c for c in [self.stem.channels, *self.stages.channels] if c % 2]
            if odd:
                raise ValueError(
                    f"stem.channels and stages.channels hold odd widths {odd}, expected even ones: "
                    "shufflenet splits channels in two"
                )
        widths = [self.stem.channels, *self.stages.channels]
        if self.name in ("resnet", "implant") and widths != sorted(widths):
            raise ValueError(
                f"stem.channels and stages.channels are {widths}, expected widths that never fall: "
                "resnet's shortcuts only add channels"
            )
        return self

    @property
    def described(self) -> dict[str, Any]:
        """The section as the metadata of networks tell it: what came later than the others is there where it acts."""
        if self.name in FIXED_SIZES:
            return self.model_dump(mode="json", include={"name", self.name.partition("-")[0]})
        acting = {"implant": self.name == "implant", "nasbench201": self.staged, "ofa": False, "torchvision": False}
        return self.model_dump(mode="json", exclude={name for name, acts in acting.items() if not acts})

    @property
    def size_free(self) -> bool:
        """Whether a supernet takes images of another size than it was trained on.

        Networks end in a mean over the pixels; those that `darts` derives have a second head, laid out for one size.
        """
        return self.name != "darts"

    @property
    def reads_checkpoints(self) -> bool:
        """Whether `supernet.reuse` takes the checkpoints that the space's authors have published."""
        return self.name in FIXED_SIZES

    @property
    def staged(self) -> bool:
        """Whether cells of NAS-Bench-201 are chosen for each stage."""
        return self.name == "nasbench201" and self.nasbench201.per_stage

    @property
    def choices(self) -> tuple[int, ...]:
        """The number of choices of each block, as the space itself counts them, without building it."""
        if self.staged:
            edges, exits = (4 + len(self.nasbench201.kernels),) * 6, self.nasbench201.exits
            return tuple(n for cells in self.stages.repeats for n in (*edges, *([cells] if exits else [])))
        if self.name == "nasbench201":
            return (5,) * 6
        if self.name == "implant":
            return ((5,) * 6 if self.implant.kind == "cells" else (2,)) * len(self.stages.channels)
        if self.name == "torchvision":
            return (1,)
        if self.name == "ofa-mobilenetv3":
            forms, always = len(KERNELS) * len(EXPANSIONS), min(DEPTHS)
            stage = (forms,) * always + (forms + 1,) * (max(DEPTHS) - always)
            return stage * len(self.ofa.stages)
        if self.name == "darts":
            real = len(set(self.darts.operations) - {"none"})
            # Of two inputs and the earlier nodes a node takes two, or one, with an operation on each.
            node = [real**2 * sources * (sources - 1) // 2 + real * sources for sources in range(2, 6)]
            return (*node, *node)
        found: list[int] = []
        stages, width = self.stages, self.stem.channels
        for channels, repeats, first in zip(stages.channels, stages.repeats, stages.strides, strict=True):
            for stride in (first, *[1] * (repeats - 1)):
                found.append(self._candidates(keeps_shape=stride == 1 and width == channels))
                width = channels
        return tuple(found)

    def _candidates(self, keeps_shape: bool) -> int:
        if self.name == "mobile":
            kinds = len(self.mobile.kernels) * len(self.mobile.expansions)
            return kinds + int(self.mobile.skip and keeps_shape)
        return len(self.shufflenet.choices) if self.name == "shufflenet" else 1

    @property
    def single(self) -> bool:
        """Whether no block has a choice, so that the space holds one architecture."""
        return set(self.choices) == {1}
