"""The interface of a search space: choices, random architectures, networks, costs."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

import numpy as np
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.spaces.bilateral import BilateralSubnet
from imbnas.spaces.cost import Cost, CostTable, Meter, counting
from imbnas.spaces.networks import Architecture, Subnet, Supernet, initialise

META = "meta"
"""Where networks are put together: no memory, no random draw, no time."""
ENUMERABLE = 100_000
"""Largest space that `enumerate` lists."""


class Choice(Protocol):
    """One of the choices that make an architecture: how a person names it, and its candidates' names."""

    @property
    def label(self) -> str:
        """Where it stands."""
        ...

    @property
    def choices(self) -> tuple[str, ...]:
        """What there is to choose from."""
        ...


class SearchSpace(ABC):
    """A set of networks, each named by one int per choice. Every method is a function of its arguments; nothing draws
    from global randomness, except that first weights come from torch's global generator.

    Where several tuples name one function, one of them is its canonical form, and where some have no way from input to
    output, they are disconnected. Every architecture that a space draws, breeds or lists is canonical and connected.
    """

    name: ClassVar[str]

    def __init__(self, blocks: Sequence[Choice], num_features: int) -> None:
        """Take the choices and the number of features that a supernet's head sees.

        A subnet's head sees `subnet_features`, as many unless the space says otherwise.
        """
        self.blocks = blocks
        self.choices: tuple[int, ...] = tuple(len(block.choices) for block in blocks)
        self.size: int = math.prod(self.choices)
        """How many architectures `enumerate` lists."""
        self.num_features = num_features
        self.subnet_features = num_features
        self.source_path: Architecture | None = None
        """The only path that the source trains, where all else is for the target alone; None: all paths."""
        self._tables: dict[tuple[tuple[int, ...], int], CostTable] = {}

    # Networks

    def build_supernet(self, num_classes: int, channels: int) -> Supernet:
        """Return a new supernet for images with this many channels; seed it with torch.manual_seed."""
        return initialise(self.supernet_on_meta(num_classes, channels))

    def build_subnet(self, architecture: Sequence[int], num_classes: int, channels: int) -> Subnet:
        """Return a new subnet, seeded with torch.manual_seed; raise UserError for a wrong architecture."""
        return initialise(self.subnet_on_meta(self.check(architecture), num_classes, channels))

    def build_bilateral(self, architecture: Sequence[int], num_classes: int, channels: int) -> BilateralSubnet:
        """Return a new two-branch network, seeded with torch.manual_seed: the branches start from different draws.

        Raises UserError for a wrong architecture.
        """
        return initialise(self.bilateral_on_meta(self.check(architecture), num_classes, channels))

    @abstractmethod
    def supernet_on_meta(self, num_classes: int, channels: int) -> Supernet:
        """Return a supernet without memory for its weights."""

    @abstractmethod
    def subnet_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> Subnet:
        """Return a subnet of a checked architecture without memory for its weights."""

    @abstractmethod
    def bilateral_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> BilateralSubnet:
        """Return a two-branch network of a checked architecture without memory for its weights."""

    def mixture_on_meta(self, weights: Sequence[Sequence[float]], num_classes: int, channels: int) -> Subnet:
        """Return a network that mixes its operations by constant weights, without memory for its own weights.

        Raises UserError for wrong constants, and in a space whose networks are not mixtures.
        """
        raise UserError(f"mixture: found one in the space {self.name}, expected the space nasbench201")

    @abstractmethod
    def subnet_state(self, supernet_state: dict[str, Tensor], architecture: Sequence[int]) -> dict[str, Tensor]:
        """Return a supernet's weights as the state of `build_subnet(architecture)`: the same tensors, renamed.

        Where forms of a block share weights they are parts of these tensors, or computed from them.
        """

    # Which tuples are architectures

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the form that stands for all tuples of the same function: the tuple itself where none share one.

        The canonical form of a canonical form is itself.
        """
        return architecture

    def connected(self, architecture: Architecture) -> bool:
        """Return whether a network's output depends on its input."""
        return True

    def accept(self, architecture: Sequence[int]) -> Architecture:
        """Return the canonical form of what a person gives; raise UserError for what is wrong or disconnected."""
        checked = self.check(architecture)
        if not self.connected(checked):
            raise UserError(
                f"architecture: {'-'.join(map(str, checked))} has no way from input to output, expected a connected one"
            )
        return self.canonical(checked)

    def check_canonical(self, architecture: Sequence[int]) -> Architecture:
        """Return an architecture of a file that imbnas wrote; raise UserError where it is none of this space's."""
        accepted = self.accept(architecture)
        if accepted != tuple(architecture):
            found, expected = ("-".join(map(str, a)) for a in (architecture, accepted))
            raise UserError(f"architecture: {found} names operations that do not act, expected {expected}")
        return accepted

    def is_one(self, architecture: Architecture) -> bool:
        """Return whether a tuple of choices is an architecture: connected and in its canonical form."""
        return self.connected(architecture) and self.canonical(architecture) == architecture

    # Architectures

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Return a uniformly random architecture."""
        while not self.is_one(drawn := self._draw(rng)):
            pass
        return drawn

    def _draw(self, rng: np.random.Generator) -> Architecture:
        """Return a random tuple of choices; a good share of all draws must be architectures."""
        return tuple(rng.integers(self.choices).tolist())

    def mutate(self, architecture: Architecture, rng: np.random.Generator, probability: float) -> Architecture:
        """Redraw each block's choice with this probability; where nothing changed, change one block after all.

        Only in a space of a single architecture does the same one come back.
        """
        while True:
            mutant = self._mutated(architecture, rng, probability)
            child = self.canonical(mutant)
            if self.size == 1 or (child != architecture and self.connected(child)):
                return child

    def _mutated(self, architecture: Architecture, rng: np.random.Generator, probability: float) -> Architecture:
        redrawn = rng.random(len(self.choices)) < probability
        drawn = self._draw(rng)
        child = tuple(d if r else c for c, d, r in zip(architecture, drawn, redrawn, strict=True))
        movable = [place for place, count in enumerate(self.choices) if count > 1]
        if child != architecture or not movable:
            return child
        place = movable[int(rng.integers(len(movable)))]
        other = (architecture[place] + 1 + int(rng.integers(self.choices[place] - 1))) % self.choices[place]
        return (*architecture[:place], other, *architecture[place + 1 :])

    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        """Return a child that takes each block's choice from either parent with equal chance.

        Parents are connected; their mixture is drawn again until it is, too.
        """
        while True:
            from_first = rng.random(len(self.choices)) < 0.5
            child = tuple(a if f else b for a, b, f in zip(first, second, from_first, strict=True))
            if self.connected(child):
                return self.canonical(child)

    def enumerate(self) -> Iterator[Architecture]:
        """Return all architectures in ascending order; raise UserError at once when there are over 100,000."""
        if self.size > ENUMERABLE:
            raise UserError(
                f"space: has {self.size} architectures, expected at most {ENUMERABLE} to list them all; "
                "choose another search.method or a smaller space"
            )
        return filter(self.is_one, itertools.product(*map(range, self.choices)))

    def check(self, architecture: Sequence[int]) -> Architecture:
        """Return the architecture as a tuple; raise UserError naming the block when it is none of this space."""
        if len(architecture) != len(self.blocks):
            needed = f"{len(self.blocks)}, one per block"
            raise UserError(f"architecture: has {len(architecture)} choices, expected {needed}")
        for number, (choice, block) in enumerate(zip(architecture, self.blocks, strict=True), 1):
            last = len(block.choices) - 1
            if not isinstance(choice, int) or isinstance(choice, bool) or not 0 <= choice <= last:
                raise UserError(
                    f"architecture: choice {number} ({block.label}) is {choice!r}, expected a whole number "
                    f"from 0 to {last}"
                )
        return tuple(architecture)

    def describe(self, architecture: Sequence[int]) -> list[str]:
        """Return a line per choice, such as "stage 2 edge 0 -> 1: nor_conv_3x3"."""
        chosen = self.check(architecture)
        return [f"{block.label}: {block.choices[choice]}" for block, choice in zip(self.blocks, chosen, strict=True)]

    def _head(self, num_classes: int) -> nn.Linear:
        return nn.Linear(self.num_features, num_classes)

    # Costs

    def cost_table(self, image: Sequence[int], num_classes: int) -> CostTable:
        """Return the costs for images of (height, width, channels), measured on the first call."""
        height, width, channels = image
        key = ((height, width, channels), num_classes)
        if key not in self._tables:
            self._tables[key] = self.measure((height, width, channels), num_classes)
        return self._tables[key]

    @abstractmethod
    def measure(self, image: tuple[int, int, int], num_classes: int, meter: Meter = counting) -> CostTable:
        """Return the costs of all parts for images of (height, width, channels), as `meter` finds them."""

    def cost(self, architecture: Sequence[int], image: Sequence[int], num_classes: int) -> Cost:
        """Return the exact cost of a subnet; raise UserError for a wrong architecture."""
        return self.cost_table(image, num_classes).cost(self.check(architecture))
