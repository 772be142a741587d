"""Options of the space `ofa-mobilenetv3`, and the sizes of its networks (Cai et al. 2020, arXiv 1908.09791)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imbnas.params.section import Section

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
DEPTHS = (2, 3, 4)
"""Blocks of a stage."""
STRIDES = (2, 2, 2, 1, 2)
"""Of each stage's first block; the stem halves the image before them."""
HARD_SWISH = (False, False, True, True, True)
"""Whether a stage's activation is h-swish; elsewhere it is ReLU."""
SQUEEZED = (False, True, False, True, True)
"""Whether a stage's blocks have squeeze-and-excitation."""
_STEM, _FIRST, _STAGES, _EXPANDED, _MIXED = 16, 16, (24, 40, 80, 112, 160), 960, 1280
_DIVISOR = 8


def divisible(channels: float) -> int:
    """Return the multiple of 8 that is nearest to a number of channels and not more than a tenth below it."""
    nearest = max(_DIVISOR, int(channels + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return nearest + _DIVISOR if nearest < 0.9 * channels else nearest


class OfaChoices(Section):
    """Options of the `ofa-mobilenetv3` space."""

    width: Annotated[float, Field(ge=0.125, le=2.0)] = 1.0
    """Factor of all widths; weights are published for 1.0 and 1.2."""

    @property
    def stem(self) -> int:
        """Channels of the first convolution."""
        return divisible(_STEM * self.width)

    @property
    def first(self) -> int:
        """Channels of the block before the stages."""
        return divisible(_FIRST * self.width)

    @property
    def stages(self) -> tuple[int, ...]:
        """Output channels of each stage."""
        return tuple(divisible(channels * self.width) for channels in _STAGES)

    @property
    def expanded(self) -> int:
        """Channels of the last convolution before the pooling."""
        return divisible(_EXPANDED * self.width)

    @property
    def mixed(self) -> int:
        """Features that the head sees."""
        return divisible(_MIXED * self.width)
