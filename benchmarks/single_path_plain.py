"""A plain transcription of the loop of Single Path One-Shot (Guo et al. 2020) for images of 32 pixels, as a yardstick.

It is written after the paper's description in the way in which its public codes for CIFAR go about it: images NCHW,
BatchNorm without weights in the supernet, the halves of a block's input shuffled apart before it and joined after it,
four candidates a block held in lists, one random path a step, the loss read back and the accuracy counted in each.
The layers of a path are those of the space `shufflenet`, so that both systems compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WIDTHS, REPEATS, STRIDES = (64, 160, 320, 640), (4, 4, 8, 4), (1, 2, 2, 1)
STEM, LAST = 16, 1024
KERNELS: tuple[int | str, ...] = (3, 5, 7, "x")


def shuffled_apart(x: Tensor) -> tuple[Tensor, Tensor]:
    """Shuffle the channels apart: those of even and those of odd number."""
    n, c, h, w = x.shape
    x = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2)
    x = x.reshape(2, -1, c // 2, h, w)
    return x[0], x[1]


def pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a 1x1 convolution with its norm and activation."""
    return [
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs, affine=False),
        nn.ReLU(inplace=True),
    ]


def spatial(channels: int, kernel: int, stride: int) -> list[nn.Module]:
    """Return a depthwise convolution with its norm."""
    return [
        nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels, affine=False),
    ]


class Block(nn.Module):
    """One candidate: a unit of ShuffleNetV2, or its Xception variant."""

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int | str) -> None:
        super().__init__()
        self.keeps = stride == 1 and inputs == outputs
        middle = outputs // 2
        enters = inputs // 2 if self.keeps else inputs
        leaves = outputs - enters
        if kernel == "x":
            layers = [*spatial(enters, 3, stride), *pointwise(enters, middle)]
            layers += [*spatial(middle, 3, 1), *pointwise(middle, middle)]
            layers += [*spatial(middle, 3, 1), *pointwise(middle, leaves)]
        else:
            layers = [*pointwise(enters, middle), *spatial(middle, int(kernel), stride), *pointwise(middle, leaves)]
        self.main = nn.Sequential(*layers)
        if not self.keeps:
            across = 3 if kernel == "x" else int(kernel)
            self.side = nn.Sequential(*spatial(inputs, across, stride), *pointwise(inputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.keeps:
            kept, changed = shuffled_apart(x)
            return torch.cat((kept, self.main(changed)), 1)
        return torch.cat((self.side(x), self.main(x)), 1)


class SinglePathPlain(nn.Module):
    """The supernet."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, STEM, 3, 1, 1, bias=False), nn.BatchNorm2d(STEM, affine=False), nn.ReLU(inplace=True)
        )
        self.blocks = nn.ModuleList()
        inputs = STEM
        for width, count, first in zip(WIDTHS, REPEATS, STRIDES, strict=True):
            for place in range(count):
                stride = first if place == 0 else 1
                self.blocks.append(nn.ModuleList([Block(inputs, width, stride, kernel) for kernel in KERNELS]))
                inputs = width
        self.last = nn.Sequential(
            nn.Conv2d(inputs, LAST, 1, bias=False), nn.BatchNorm2d(LAST, affine=False), nn.ReLU(inplace=True)
        )
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.head = nn.Linear(LAST, classes)

    def forward(self, x: Tensor, path: Sequence[int]) -> Tensor:
        x = self.stem(x)
        for number, candidates in enumerate(self.blocks):
            x = candidates[path[number]](x)
        x = self.pool(self.last(x))
        out: Tensor = self.head(x.view(x.size(0), -1))
        return out
