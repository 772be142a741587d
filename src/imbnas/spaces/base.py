"""What every search space has: choice blocks, networks, random architectures, costs."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.spaces.bilateral import BilateralSubnet, Branch
from imbnas.spaces.blocks import conv_norm
from imbnas.spaces.chain import Architecture, Subnet, Supernet, initialise, subnet_state
from imbnas.spaces.cost import Cost, CostTable, count, measure

META = "meta"
"""Where networks are put together: no memory, no random draw, no time."""
ENUMERABLE = 100_000
"""Largest space that `enumerate` lists."""


@dataclass(frozen=True)
class Outline:
    """What all subnets of a space have in common.

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


class SearchSpace(ABC):
    """A chain of choice blocks. Every method is a function of its arguments; nothing draws from global randomness,
    except that first weights come from torch's global generator.
    """

    name: ClassVar[str]
    activation: ClassVar[type[nn.Module]]

    def __init__(self, outline: Outline) -> None:
        """Lay out the choice blocks."""
        self.outline = outline
        self.blocks = [ChoiceBlockSpec(*where, self.candidates(*where[2:])) for where in _places(outline)]
        self.choices: tuple[int, ...] = tuple(len(block.choices) for block in self.blocks)
        self.size: int = math.prod(self.choices)
        self.num_features: int = outline.num_features
        self._tables: dict[tuple[tuple[int, ...], int], CostTable] = {}

    @abstractmethod
    def candidates(self, in_channels: int, out_channels: int, stride: int) -> tuple[str, ...]:
        """Return the candidates' names of a choice block of this shape, at least one."""

    @abstractmethod
    def candidate(self, block: ChoiceBlockSpec, choice: int) -> nn.Module:
        """Return a new module of one candidate."""

    # Networks

    def build_supernet(self, num_classes: int, channels: int) -> Supernet:
        """Return a new supernet for images with this many channels; seed it with torch.manual_seed."""
        return initialise(self._supernet_on_meta(num_classes, channels))

    def build_subnet(self, architecture: Sequence[int], num_classes: int, channels: int) -> Subnet:
        """Return a new subnet, seeded with torch.manual_seed; raise UserError for a wrong architecture."""
        chosen = self.check(architecture)
        with torch.device(META):
            blocks = [self.candidate(block, choice) for block, choice in zip(self.blocks, chosen, strict=True)]
            subnet = Subnet(self._stem(channels), blocks, self._last(), self._head(num_classes))
        return initialise(subnet)

    def build_bilateral(self, architecture: Sequence[int], num_classes: int, channels: int) -> BilateralSubnet:
        """Return a new two-branch network, seeded with torch.manual_seed: the branches start from different draws.

        Raises UserError for a wrong architecture.
        """
        return initialise(self._bilateral_on_meta(architecture, num_classes, channels))

    def subnet_state(self, supernet_state: dict[str, Tensor], architecture: Sequence[int]) -> dict[str, Tensor]:
        """Return a supernet's weights as the state of `build_subnet(architecture)`: the same tensors, renamed."""
        return subnet_state(supernet_state, self.check(architecture))

    def _supernet_on_meta(self, num_classes: int, channels: int) -> Supernet:
        with torch.device(META):
            blocks = [[self.candidate(block, choice) for choice in range(len(block.choices))] for block in self.blocks]
            return Supernet(self._stem(channels), blocks, self._last(), self._head(num_classes))

    def _bilateral_on_meta(self, architecture: Sequence[int], num_classes: int, channels: int) -> BilateralSubnet:
        chosen = list(zip(self.blocks, self.check(architecture), strict=True))
        shared = len(chosen) - self.outline.repeats[-1]
        with torch.device(META):
            trunk = [self.candidate(block, choice) for block, choice in chosen[:shared]]
            branches = [
                Branch([self.candidate(block, choice) for block, choice in chosen[shared:]], self._last())
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

    def _head(self, num_classes: int) -> nn.Linear:
        return nn.Linear(self.num_features, num_classes)

    # Architectures

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Return a uniformly random architecture."""
        return tuple(rng.integers(self.choices).tolist())

    def mutate(self, architecture: Architecture, rng: np.random.Generator, probability: float) -> Architecture:
        """Redraw each block's choice with this probability; where nothing changed, change one block after all.

        Only in a space of a single architecture does the same one come back.
        """
        redrawn = rng.random(len(self.choices)) < probability
        drawn = self.sample(rng)
        child = tuple(d if r else c for c, d, r in zip(architecture, drawn, redrawn, strict=True))
        movable = [place for place, count in enumerate(self.choices) if count > 1]
        if child != architecture or not movable:
            return child
        place = movable[int(rng.integers(len(movable)))]
        other = (architecture[place] + 1 + int(rng.integers(self.choices[place] - 1))) % self.choices[place]
        return (*architecture[:place], other, *architecture[place + 1 :])

    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        """Return a child that takes each block's choice from either parent with equal chance."""
        from_first = rng.random(len(self.choices)) < 0.5
        return tuple(a if f else b for a, b, f in zip(first, second, from_first, strict=True))

    def enumerate(self) -> Iterator[Architecture]:
        """Return all architectures in ascending order; raise UserError at once when there are over 100 000."""
        if self.size > ENUMERABLE:
            raise UserError(
                f"space: has {self.size} architectures, expected at most {ENUMERABLE} to list them all; "
                "choose another search.method or a smaller space"
            )
        return itertools.product(*map(range, self.choices))

    def check(self, architecture: Sequence[int]) -> Architecture:
        """Return the architecture as a tuple; raise UserError naming the block when it is none of this space."""
        if len(architecture) != len(self.blocks):
            raise UserError(f"architecture: has {len(architecture)} choices, expected {len(self.blocks)}, one a block")
        for number, (choice, block) in enumerate(zip(architecture, self.blocks, strict=True), 1):
            last = len(block.choices) - 1
            if not isinstance(choice, int) or isinstance(choice, bool) or not 0 <= choice <= last:
                raise UserError(
                    f"architecture: choice {number} ({block.label}) is {choice!r}, expected a whole number "
                    f"from 0 to {last}"
                )
        return tuple(architecture)

    def describe(self, architecture: Sequence[int]) -> list[str]:
        """Return a line per block, such as "stage 2 block 1: shuffle 5x5, stride 2, 16 -> 32"."""
        return [
            f"{block.label}: {block.choices[choice]}, stride {block.stride}, "
            f"{block.in_channels} -> {block.out_channels}"
            for block, choice in zip(self.blocks, self.check(architecture), strict=True)
        ]

    # Costs

    def cost_table(self, image: Sequence[int], num_classes: int) -> CostTable:
        """Return the costs for images of (height, width, channels), measured on the first call."""
        height, width, channels = image
        key = ((height, width, channels), num_classes)
        if key not in self._tables:
            supernet = self._supernet_on_meta(num_classes, channels)
            self._tables[key] = measure(supernet, (height, width, channels))
        return self._tables[key]

    def cost(self, architecture: Sequence[int], image: Sequence[int], num_classes: int) -> Cost:
        """Return the exact cost of a subnet; raise UserError for a wrong architecture."""
        return self.cost_table(image, num_classes).cost(self.check(architecture))

    def bilateral_cost(self, architecture: Sequence[int], image: Sequence[int], num_classes: int) -> Cost:
        """Return the exact cost of a two-branch network in evaluation; raise UserError for a wrong architecture."""
        height, width, channels = image
        return count(self._bilateral_on_meta(architecture, num_classes, channels), (height, width, channels))


def _places(outline: Outline) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (stage, place, input channels, output channels, stride) of each choice block."""
    inputs = outline.stem_channels
    stages = zip(outline.channels, outline.repeats, outline.strides, strict=True)
    for stage, (channels, repeats, stride) in enumerate(stages, 1):
        for place in range(1, repeats + 1):
            yield stage, place, inputs, channels, stride if place == 1 else 1
            inputs = channels
