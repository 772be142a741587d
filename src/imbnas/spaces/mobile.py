"""Inverted residuals with searched kernel, expansion and, by skipping, depth (Cai et al. 2019, arXiv 1812.00332)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

from imbnas.spaces.blocks import InvertedResidual
from imbnas.spaces.chain import ChainSpace, ChoiceBlockSpec, Outline

SKIP = "skip"


class MobileSpace(ChainSpace):
    """Choices are kernel x expansion, the expansion counting fastest; blocks that keep their shape add `skip` last.

    A choice below the number of kernels x expansions therefore means the same in every block.
    """

    name = "mobile"
    activation = nn.ReLU6

    def __init__(self, outline: Outline, kernels: Sequence[int], expansions: Sequence[int], skip: bool) -> None:
        """Take the outline, odd kernel sizes, expansion ratios and whether blocks may be left out."""
        self._kinds = list(itertools.product(kernels, expansions))
        self._skip = skip
        super().__init__(outline)

    def candidates(self, in_channels: int, out_channels: int, stride: int) -> tuple[str, ...]:
        """Return the blocks' names, with `skip` where leaving the block out keeps the shape."""
        names = [f"mobile {kernel}x{kernel} expansion {expansion}" for kernel, expansion in self._kinds]
        if self._skip and stride == 1 and in_channels == out_channels:
            names.append(SKIP)
        return tuple(names)

    def candidate(self, block: ChoiceBlockSpec, choice: int) -> nn.Module:
        """Return a new inverted residual, or the identity for `skip`."""
        if block.choices[choice] == SKIP:
            return nn.Identity()
        kernel, expansion = self._kinds[choice]
        return InvertedResidual(block.in_channels, block.out_channels, block.stride, kernel, expansion)
