"""What a subnet costs: multiply-accumulate operations and parameters, as sums over a table that is measured once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from imbnas.spaces.chain import Architecture, Supernet


@dataclass(frozen=True)
class Cost:
    """The cost of a network or of a part of it.

    `macs`: multiply-accumulate operations of convolutions and linear layers for one image, half of what torch's flop
    counter says. `params`: trainable parameters, BatchNorm's included.
    """

    macs: int
    params: int


@dataclass(frozen=True)
class CostTable:
    """Costs of a space's parts for one image shape and number of classes.

    `fixed` is stem, last convolution and head together; `blocks[i][c]` is candidate c of choice block i.
    """

    fixed: Cost
    blocks: tuple[tuple[Cost, ...], ...]

    def cost(self, architecture: Architecture) -> Cost:
        """Return the exact cost of a subnet, a few microseconds' sum of ints."""
        macs, params = self.fixed.macs, self.fixed.params
        for candidates, choice in zip(self.blocks, architecture, strict=True):
            part = candidates[choice]
            macs += part.macs
            params += part.params
        return Cost(macs, params)


def count(network: nn.Module, image: tuple[int, int, int]) -> Cost:
    """Return the cost of any network of one argument in evaluation; the network stays as it is.

    `image` is (height, width, channels). Buffers, such as those of a nearest-class-mean head, are no parameters.
    """
    height, width, channels = image
    shadow = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, channels, height, width, device="meta"))
    return Cost(counter.get_total_flops() // 2, sum(parameter.numel() for parameter in shadow.parameters()))


def measure(supernet: Supernet, image: tuple[int, int, int]) -> CostTable:
    """Count every part of a supernet on the meta device with torch.utils.flop_counter.

    `image` is (height, width, channels). Every candidate of a block gives the same output shape, so that each is
    measured once, whatever precedes it.
    """
    height, width, channels = image
    supernet.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:

        def run(module: nn.Module, x: Tensor) -> tuple[Tensor, Cost]:
            before = counter.get_total_flops()
            y: Tensor = module(x)
            params = sum(parameter.numel() for parameter in module.parameters())
            return y, Cost((counter.get_total_flops() - before) // 2, params)

        return _walk(supernet, torch.empty(1, channels, height, width, device="meta"), run)


def _walk(supernet: Supernet, x: Tensor, run: Callable[[nn.Module, Tensor], tuple[Tensor, Cost]]) -> CostTable:
    """Apply `run` to every part once, in the order of the chain."""
    x, stem = run(supernet.stem, x)
    blocks: list[tuple[Cost, ...]] = []
    for candidates in supernet.blocks:
        results = [run(candidate, x) for candidate in candidates.children()]
        blocks.append(tuple(cost for _, cost in results))
        x = results[0][0]
    x, last = run(supernet.last, x)
    _, head = run(supernet.head, supernet.pool(x))
    ends = (stem, last, head)
    return CostTable(Cost(sum(c.macs for c in ends), sum(c.params for c in ends)), tuple(blocks))
