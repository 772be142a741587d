"""The cost of a subnet: operations, parameters, and what else is known, as sums over a table that is measured once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from imbnas.approximate.convolution import ApproximateConv2d
from imbnas.spaces.networks import Architecture, Subnet, Supernet

CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}
"""Functions of an input and a weight, each number of whose result takes as many products as one kernel has."""
PRODUCTS = {F.linear, torch.matmul, torch.mm, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.mm}
"""Functions each number of whose result takes as many products as the first argument is wide."""
OTHERS = {torch.conv_transpose2d, torch.addmm, torch.baddbmm, torch.einsum, torch.cdist, torch.bilinear}
"""Functions that nothing here calls and that would have to be counted."""


@dataclass(frozen=True)
class Cost:
    """The cost of a network or of a part of it.

    `macs`: multiply-accumulate operations of convolutions and linear layers for one image, half of what torch's flop
    counter says. `params`: trainable parameters, BatchNorm's included. `latency`: nanoseconds of one pass, by a table
    of measured blocks (`search.latency`); 0 where there is none. `energy`: attojoules of these operations
    (`spaces.energy_cost`); 0 where no multiplier is approximate, or where its energy is not known.
    """

    macs: int
    params: int
    latency: int = 0
    energy: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of both parts together."""
        return Cost(
            self.macs + other.macs,
            self.params + other.params,
            self.latency + other.latency,
            self.energy + other.energy,
        )


@dataclass(frozen=True)
class CostTable:
    """Costs of a space's parts for one image shape and number of classes.

    `fixed` is what all subnets share; `blocks[i][c]` is candidate c of choice block i.
    """

    fixed: Cost
    blocks: tuple[tuple[Cost, ...], ...]

    def cost(self, architecture: Architecture) -> Cost:
        """Return the exact cost of a subnet, a few microseconds' sum of ints."""
        macs, params, latency, energy = self.fixed.macs, self.fixed.params, self.fixed.latency, self.fixed.energy
        for candidates, choice in zip(self.blocks, architecture, strict=True):
            part = candidates[choice]
            macs += part.macs
            params += part.params
            latency += part.latency
            energy += part.energy
        return Cost(macs, params, latency, energy)

    # Where several architectures share a row's entry, these say which (`staged_costs.StagedCosts`).

    def ways(self, block: int) -> np.ndarray:
        """Return how many different choices each entry of `blocks[block]` stands for."""
        return np.ones(len(self.blocks[block]))

    def smallest_of(self, places: Sequence[int]) -> Architecture:
        """Return the smallest architecture with these entries of `blocks`."""
        return tuple(places)

    def drawn_of(self, places: Sequence[int], rng: np.random.Generator) -> Architecture:
        """Return a uniformly random architecture with these entries of `blocks`."""
        return tuple(places)


def timed(table: CostTable, fixed: int, blocks: Sequence[Sequence[int]]) -> CostTable:
    """Return costs with the nanoseconds of what all subnets share and of each candidate; shapes must be the same."""
    rows = tuple(
        tuple(replace(cost, latency=taken) for cost, taken in zip(costs, row, strict=True))
        for costs, row in zip(table.blocks, blocks, strict=True)
    )
    return replace(table, fixed=replace(table.fixed, latency=fixed), blocks=rows)


class _Counter(TorchFunctionMode):
    """Adds up the multiply-accumulate operations of convolutions and matrix products.

    torch.utils.flop_counter counts the same, and brings torch's compiler along (docs/decisions/0015).
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        # The number of products in each of the result's numbers.
        if func in CONVOLUTIONS:
            self.macs += found.numel() * args[1][0].numel()
        elif func in PRODUCTS:
            self.macs += found.numel() * args[0].shape[-1]
        elif func in OTHERS:
            raise TypeError(f"{func.__name__}: how many operations it takes is not known here, expected a known one")
        return found


def count(network: nn.Module, image: tuple[int, int, int]) -> Cost:
    """Return the cost of any network of one argument in evaluation; the network stays as it is.

    `image` is (height, width, channels). Buffers, as in a nearest-class-mean head, do not count as parameters.
    """
    with counting(image) as (run, x):
        return run(network, x)[1]


class Run(Protocol):
    """Applies a module in evaluation and returns its output and its cost.

    `part` names what all subnets of a space share: "stem", "reduction", "cell inputs", "last" or "classifier".
    """

    def __call__(self, module: nn.Module, x: Tensor, part: str = "") -> tuple[Tensor, Cost]:
        """Apply `module` to `x`."""
        ...


Meter = Callable[[tuple[int, int, int]], AbstractContextManager[tuple[Run, Tensor]]]
"""Opens a measurement for an image of (height, width, channels): what runs modules, and one image to begin with."""


@contextmanager
def counting(image: tuple[int, int, int]) -> Iterator[tuple[Run, Tensor]]:
    """Count modules, which may be without memory, on an image of zeros on the processor.

    Yields a function that runs a copy of a module and says what it costs, and one image of (height, width, channels) to
    begin with. Tensors without memory would do, but their kernels bring torch's compiler along, too.
    """
    height, width, channels = image
    with torch.no_grad(), _Counter() as counter:

        def run(module: nn.Module, x: Tensor, part: str = "") -> tuple[Tensor, Cost]:
            before = counter.macs
            y: Tensor = of_zeros(module)(x)
            return y, Cost(counter.macs - before, sum(parameter.numel() for parameter in module.parameters()))

        yield run, torch.zeros(1, channels, height, width)


def of_zeros(module: nn.Module) -> nn.Module:
    """Return a copy of a module on the processor, in evaluation mode, all its numbers zero."""
    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        zeros = torch.zeros(tensor.shape, dtype=tensor.dtype)
        memo[id(tensor)] = nn.Parameter(zeros, requires_grad=False) if isinstance(tensor, nn.Parameter) else zeros
    copied = copy.deepcopy(module, memo).eval()
    for part in copied.modules():
        if isinstance(part, ApproximateConv2d):
            # It takes as many operations as it would in hardware; its emulation takes more.
            part.emulates = False
    return copied


def count_layers(network: nn.Module, image: tuple[int, int, int]) -> dict[str, int]:
    """Return the multiply-accumulate operations of each layer that has any, by its name, in the order of their run.

    A layer is a module without modules of its own. The network, of one argument, stays as it is.
    """
    height, width, channels = image
    copied, found = of_zeros(network), dict[str, int]()
    begun: list[int] = []
    with torch.no_grad(), _Counter() as counter:

        def begin(module: nn.Module, inputs: Any) -> None:
            begun.append(counter.macs)

        def end(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            if taken := counter.macs - begun.pop():
                found[name] = found.get(name, 0) + taken

        for name, part in copied.named_modules():
            if isinstance(part, ApproximateConv2d) or next(part.children(), None) is None:
                part.register_forward_pre_hook(begin)
                part.register_forward_hook(partial(end, name))
        copied(torch.zeros(1, channels, height, width))
    return found


def measure(supernet: Supernet, image: tuple[int, int, int], meter: Meter = counting) -> CostTable:
    """Count every part of a chain of choice blocks for an image of (height, width, channels), or time it.

    Every candidate of a block gives the same output shape, so that each is measured once, whatever precedes it.
    """
    with meter(image) as (run, x):
        x, fixed = run(supernet.stem, x, "stem")
        blocks: list[tuple[Cost, ...]] = []
        for candidates in supernet.blocks:
            results = [run(candidate, x) for candidate in candidates.children()]
            blocks.append(tuple(cost for _, cost in results))
            x = results[0][0]
        x, last = run(supernet.last, x, "last")
        fixed += last + classifier(run, supernet, x)
    return CostTable(fixed, tuple(blocks))


def classifier(run: Run, network: Supernet | Subnet, x: Tensor) -> Cost:
    """Return the cost of a network's pooling and head."""
    x, pooling = run(network.pool, x, "classifier")
    return pooling + run(network.head, x, "classifier")[1]
