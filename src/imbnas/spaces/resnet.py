"""The CIFAR ResNets of basic blocks (He et al. 2016, arXiv 1512.03385, section 4.2): one network, nothing to choose.

ResNet-32, on which long-tailed learning is compared (Cao et al. 2019), is a stem of 16 channels, three stages of five
blocks with 16, 32 and 64 channels and strides 1, 2, 2, and no last convolution.
"""

from __future__ import annotations

from torch import nn

from imbnas.spaces.blocks import BasicBlock
from imbnas.spaces.chain import ChainSpace, ChoiceBlockSpec


class ResNetSpace(ChainSpace):
    """Every choice block has one candidate, `basic`: the space holds a single architecture, all zeros."""

    name = "resnet"
    activation = nn.ReLU

    def candidates(self, in_channels: int, out_channels: int, stride: int) -> tuple[str, ...]:
        """Return the one candidate's name."""
        return ("basic",)

    def candidate(self, block: ChoiceBlockSpec, choice: int) -> nn.Module:
        """Return a new basic block."""
        return BasicBlock(block.in_channels, block.out_channels, block.stride)
