"""Search spaces whose networks are chains of choice blocks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from imbnas.spaces.bilateral import BilateralSubnet, Branch
from imbnas.spaces.blocks import conv_norm, of_operation
from imbnas.spaces.cost import CostTable, Meter, counting, measure
from imbnas.spaces.networks import Architecture, Subnet, Supernet, subnet_state
from imbnas.spaces.space import META, SearchSpace


@dataclass(frozen=True)
class Outline:
    """The parts that all subnets of a space share.

    A 3x3 stem convolution with its channels and stride; one entry per stage of output channels, number of choice
    blocks and stride of the first of them; the width of the last 1x1 convolution, None where there is none.
    """

    stem_channels: int
    stem_stride: int
    channels: tuple[int, ...]
    repeats: tuple[int, ...]
    strides: tuple[int, ...]
    last_channels: int | None

    @property
    def num_features(self) -> int:
        """Channels that reach the pooling, which is what the head sees."""
        return self.channels[-1] if self.last_channels is None else self.last_channels


@dataclass(frozen=True)
class ChoiceBlockSpec:
    """One choice block: where it stands (stage and place in it count from 1), its shape and its candidates' names."""

    stage: int
    place: int
    in_channels: int
    out_channels: int
    stride: int
    choices: tuple[str, ...]

    @property
    def label(self) -> str:
        """Where the block stands, as a person says it."""
        return f"stage {self.stage} block {self.place}"


class ChainSpace(SearchSpace):
    """A chain of choice blocks: one candidate of each makes an architecture."""

    activation: ClassVar[type[nn.Module]]
    blocks: list[ChoiceBlockSpec]

    def __init__(self, outline: Outline) -> None:
        """Lay out the choice blocks."""
        self.outline = outline
        blocks = [ChoiceBlockSpec(*where, self.candidates(*where[2:])) for where in places(outline)]
        super().__init__(blocks, outline.num_features)

    @abstractmethod
    def candidates(self, in_channels: int, out_channels: int, stride: int) -> tuple[str, ...]:
        """Return the candidates' names of a choice block of this shape, at least one."""

    @abstractmethod
    def candidate(self, block: ChoiceBlockSpec, choice: int) -> nn.Module:
        """Return a new module of one candidate."""

    # Networks

    def _named(self, block: ChoiceBlockSpec, choice: int) -> nn.Module:
        return of_operation(block.choices[choice], self.candidate(block, choice))

    def supernet_on_meta(self, num_classes: int, channels: int) -> Supernet:
        """Return a supernet without memory for its weights."""
        with torch.device(META):
            blocks = [[self._named(block, choice) for choice in range(len(block.choices))] for block in self.blocks]
            return Supernet(self._stem(channels), blocks, self._last(), self._head(num_classes))

    def subnet_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> Subnet:
        """Return a subnet without memory for its weights."""
        with torch.device(META):
            blocks = [self._named(block, choice) for block, choice in zip(self.blocks, architecture, strict=True)]
            return Subnet(self._stem(channels), blocks, self._last(), self._head(num_classes))

    def subnet_state(self, supernet_state: dict[str, Tensor], architecture: Sequence[int]) -> dict[str, Tensor]:
        """Return a supernet's weights as the state of `build_subnet(architecture)`: the same tensors, renamed."""
        return subnet_state(supernet_state, self.check(architecture))

    def bilateral_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> BilateralSubnet:
        """Return a two-branch network without memory for its weights; the trunk ends one stage before the last."""
        chosen = list(zip(self.blocks, architecture, strict=True))
        shared = len(chosen) - self.outline.repeats[-1]
        with torch.device(META):
            trunk = [self._named(block, choice) for block, choice in chosen[:shared]]
            branches = [
                Branch([self._named(block, choice) for block, choice in chosen[shared:]], self._last())
                for _ in range(2)
            ]
            head = nn.Linear(2 * self.num_features, num_classes)
            return BilateralSubnet(self._stem(channels), trunk, (branches[0], branches[1]), head)

    def _stem(self, channels: int) -> nn.Sequential:
        outline = self.outline
        layers = conv_norm(channels, outline.stem_channels, 3, outline.stem_stride, activation=self.activation)
        return nn.Sequential(*layers)

    def _last(self) -> nn.Module:
        outline = self.outline
        if outline.last_channels is None:
            return nn.Identity()
        layers = conv_norm(outline.channels[-1], outline.last_channels, 1, activation=self.activation)
        return nn.Sequential(*layers)

    # Descriptions and costs

    def describe(self, architecture: Sequence[int]) -> list[str]:
        """Return a line per block, such as "stage 2 block 1: shuffle 5x5, stride 2, 16 -> 32"."""
        return [
            f"{block.label}: {block.choices[choice]}, stride {block.stride}, "
            f"{block.in_channels} -> {block.out_channels}"
            for block, choice in zip(self.blocks, self.check(architecture), strict=True)
        ]

    def measure(self, image: tuple[int, int, int], num_classes: int, meter: Meter = counting) -> CostTable:
        """Return the costs of all parts for images of (height, width, channels), as `meter` finds them."""
        return measure(self.supernet_on_meta(num_classes, image[2]), image, meter)


def places(outline: Outline) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (stage, place, input channels, output channels, stride) of each choice block."""
    inputs = outline.stem_channels
    stages = zip(outline.channels, outline.repeats, outline.strides, strict=True)
    for stage, (channels, repeats, stride) in enumerate(stages, 1):
        for place in range(1, repeats + 1):
            yield stage, place, inputs, channels, stride if place == 1 else 1
            inputs = channels
