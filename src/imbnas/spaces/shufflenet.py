"""The Single Path One-Shot space: units of ShuffleNetV2 (Guo et al. 2020, arXiv 1904.00420)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from imbnas.spaces.blocks import shuffle_unit
from imbnas.spaces.chain import ChainSpace, ChoiceBlockSpec, Outline

UNITS: dict[str, tuple[str, int, bool]] = {
    "shuffle3": ("shuffle 3x3", 3, False),
    "shuffle5": ("shuffle 5x5", 5, False),
    "shuffle7": ("shuffle 7x7", 7, False),
    "xception": ("shuffle xception 3x3", 3, True),
}
"""What a parameter's word means: its name in descriptions, the kernel, and whether the branch is Xception's."""


class ShuffleNetSpace(ChainSpace):
    """Every choice block chooses among the same ShuffleNetV2 units; all channel counts must be even."""

    name = "shufflenet"
    activation = nn.ReLU

    def __init__(self, outline: Outline, choices: Sequence[str]) -> None:
        """Take the outline and the candidates, words of UNITS; an architecture counts them in this order."""
        self._units = [UNITS[word] for word in choices]
        super().__init__(outline)

    def candidates(self, in_channels: int, out_channels: int, stride: int) -> tuple[str, ...]:
        """Return the units' names, the same in all blocks."""
        return tuple(name for name, _, _ in self._units)

    def candidate(self, block: ChoiceBlockSpec, choice: int) -> nn.Module:
        """Return a new unit."""
        _, kernel, xception = self._units[choice]
        return shuffle_unit(block.in_channels, block.out_channels, block.stride, kernel, xception)
