"""The space of implants: a CIFAR ResNet with a searched network beside the last shortcut of each stage.

Implantable adaptive cells (Benedykciuk et al. 2024, arXiv 2405.03420) are searched in the skip connections of a trained
U-Net whose weights stay as they are; this carries them over to classification (decision 29).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.spaces.bilateral import BilateralSubnet, Branch
from imbnas.spaces.blocks import conv_norm
from imbnas.spaces.chain import Outline, places
from imbnas.spaces.cost import Cost, CostTable, Meter, Run, classifier, counting
from imbnas.spaces.implanted import (
    HeldBlock,
    HeldSequential,
    Implant,
    ImplantedBlock,
    ImplantSupernet,
)
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.spaces.space import META, SearchSpace
from imbnas.spaces.staged_costs import StagedCosts

Make = Callable[[int, int], nn.Module | None]
"""From a stage, counted from 0, and its channels to the module beside the shortcut."""


@dataclass(frozen=True)
class StageChoice:
    """One choice of one stage's implant; stages count from 1."""

    stage: int
    place: str
    choices: tuple[str, ...]

    @property
    def label(self) -> str:
        """Where the choice stands, as a person says it."""
        return f"stage {self.stage} {self.place}"


class ImplantSpace(SearchSpace):
    """A ResNet of basic blocks; an architecture is as many choices for each stage, those of its implant.

    Canonical is an architecture whose every stage is. All are connected: the backbone always is, and a stage whose
    choices name nothing that acts has no implant.
    """

    name = "implant"

    def __init__(self, outline: Outline, stage: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        """Take the outline, and for each choice of a stage where it stands and the candidates' names."""
        stages = range(1, len(outline.channels) + 1)
        super().__init__([StageChoice(s, *one) for s in stages for one in stage], outline.num_features)
        self.outline = outline
        self.width = len(stage)
        """Choices of one stage."""
        self.size = len(self.stage_parts) ** len(stages)
        self.source_path = (0,) * len(self.blocks)

    @abstractmethod
    def canonical_part(self, part: Architecture) -> Architecture:
        """Return the form that stands for all choices of a stage that are the same function."""

    @abstractmethod
    def stage_choice(self, stage: int, channels: int) -> nn.Module:
        """Return a new module of all implants of a stage, which is counted from 0."""

    @abstractmethod
    def stage_implant(self, part: Architecture, stage: int, channels: int) -> Implant | None:
        """Return a new implant of a stage; None where its choices name none."""

    @abstractmethod
    def operation_costs(self, choice: nn.Module, run: Run, x: Tensor) -> Callable[[Architecture], Cost]:
        """Return the function from a stage's canonical choices to their cost, measured on a shortcut's output."""

    @abstractmethod
    def weight_of_path(self, name: str, part: Architecture) -> str | None:
        """Return what a subnet calls an implant's weight of the supernet; None where a stage's choices do not use it.

        `name` is what follows `.implant.`.
        """

    @cached_property
    def stage_parts(self) -> tuple[Architecture, ...]:
        """Return all canonical choices of one stage, ascending."""
        counts = [range(len(block.choices)) for block in self.blocks[: self.width]]
        return tuple(part for part in product(*counts) if self.canonical_part(part) == part)

    def parts(self, architecture: Architecture) -> list[Architecture]:
        """Return the choices of each stage."""
        return [architecture[k : k + self.width] for k in range(0, len(architecture), self.width)]

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with the canonical choices of each stage."""
        return tuple(choice for part in self.parts(architecture) for choice in self.canonical_part(part))

    def _draw(self, rng: np.random.Generator) -> Architecture:
        """Draw a canonical implant for each stage; with many stages random tuples hardly ever are."""
        drawn = (self.stage_parts[int(rng.integers(len(self.stage_parts)))] for _ in self.outline.channels)
        return tuple(choice for part in drawn for choice in part)

    # Networks

    def supernet_on_meta(self, num_classes: int, channels: int) -> ImplantSupernet:
        """Return a supernet without memory for its weights."""
        with torch.device(META):
            blocks = self._blocks(self.stage_choice)
            return ImplantSupernet(self._stem(channels), blocks, self._last(), self._head(num_classes), self.width)

    def subnet_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> Subnet:
        """Return a subnet without memory for its weights."""
        with torch.device(META):
            blocks = self._blocks(self._make(architecture))
            return Subnet(self._stem(channels), blocks, self._last(), self._head(num_classes))

    def bilateral_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> BilateralSubnet:
        """Return a two-branch network without memory for its weights; the last stage is there twice."""
        with torch.device(META):
            blocks, other = self._blocks(self._make(architecture)), self._blocks(self._make(architecture))
            shared = len(blocks) - self.outline.repeats[-1]
            branches = Branch(blocks[shared:], self._last()), Branch(other[shared:], self._last())
            head = nn.Linear(2 * self.num_features, num_classes)
            return BilateralSubnet(self._stem(channels), blocks[:shared], branches, head)

    def subnet_state(self, supernet_state: dict[str, Tensor], architecture: Sequence[int]) -> dict[str, Tensor]:
        """Return a supernet's weights as the state of `build_subnet(architecture)`: the same tensors, renamed."""
        parts = self.parts(self.canonical(self.check(architecture)))
        ends = np.cumsum(self.outline.repeats) - 1
        part_of = {f"blocks.{end}": part for end, part in zip(ends.tolist(), parts, strict=True)}
        kept: dict[str, Tensor] = {}
        for key, value in supernet_state.items():
            block, found, name = key.partition(".implant.")
            if not found:
                kept[key] = value
            elif (renamed := self.weight_of_path(name, part_of[block])) is not None:
                kept[f"{block}.implant.{renamed}"] = value
        return kept

    def _make(self, architecture: Architecture) -> Make:
        parts = self.parts(self.canonical(architecture))
        return lambda stage, channels: self.stage_implant(parts[stage], stage, channels)

    def _blocks(self, implant: Make) -> list[nn.Module]:
        blocks: list[nn.Module] = []
        for stage, place, inputs, outputs, stride in places(self.outline):
            block: nn.Module = HeldBlock(inputs, outputs, stride)
            if place == self.outline.repeats[stage - 1]:
                block = ImplantedBlock(block, implant(stage - 1, outputs))  # type: ignore[arg-type]
            blocks.append(block)
        return blocks

    def _stem(self, channels: int) -> nn.Module:
        layers = conv_norm(channels, self.outline.stem_channels, 3, self.outline.stem_stride, activation=nn.ReLU)
        return HeldSequential(*layers)

    def _last(self) -> nn.Module:
        width = self.outline.last_channels
        if width is None:
            return nn.Identity()
        return HeldSequential(*conv_norm(self.outline.channels[-1], width, 1, activation=nn.ReLU))

    # Costs

    def measure(self, image: tuple[int, int, int], num_classes: int, meter: Meter = counting) -> CostTable:
        """Return the costs of the backbone, and of each stage's different implants."""
        supernet = self.supernet_on_meta(num_classes, image[2])
        stages: list[Callable[[Architecture], Cost]] = []
        with meter(image) as (run, x):
            x, fixed = run(supernet.stem, x, "stem")
            for block in supernet.blocks:
                backbone = block.block if isinstance(block, ImplantedBlock) else block
                x, cost = run(backbone, x)
                fixed += cost
                if isinstance(block, ImplantedBlock):
                    assert block.implant is not None
                    stages.append(self.operation_costs(block.implant, run, x))
            x, last = run(supernet.last, x, "last")
            fixed += last + classifier(run, supernet, x)
        return self._table(fixed, stages)

    def _table(self, fixed: Cost, stages: list[Callable[[Architecture], Cost]]) -> StagedCosts:
        """Bring together the implants whose cost is the same in every stage."""
        places_of: dict[tuple[Cost, ...], list[Architecture]] = {}
        for part in self.stage_parts:
            places_of.setdefault(tuple(cost(part) for cost in stages), []).append(part)
        place = {part: k for k, parts in enumerate(places_of.values()) for part in parts}
        blocks = tuple(tuple(costs[stage] for costs in places_of) for stage in range(len(stages)))
        parts = tuple(map(tuple, places_of.values()))
        return StagedCosts(fixed, blocks, parts, lambda part: place[self.canonical_part(part)])
