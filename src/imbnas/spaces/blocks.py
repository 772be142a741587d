"""The candidate operations of choice blocks, as torch modules without knowledge of spaces.

No module changes its input in place: a search that shares prefixes feeds one tensor to several candidates.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.depthwise import DepthwiseConv2d

Part = TypeVar("Part", bound=nn.Module)


def of_operation(name: str, module: Part) -> Part:
    """Return the module, noting of which operation of a search space it is; what has no note is in all networks."""
    module.operation = name  # type: ignore[assignment]
    return module


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    activation: type[nn.Module] | None = None,
) -> list[nn.Module]:
    """Return a convolution without bias, padded to keep the size at stride 1, then BatchNorm and the activation.

    `activation` is a class that takes `inplace`, such as nn.ReLU; None ends with BatchNorm. In place is safe here,
    because the activation's input is always BatchNorm's fresh output.
    """
    return _normed(nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), activation)


def _normed(conv: nn.Conv2d, activation: type[nn.Module] | None) -> list[nn.Module]:
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(conv.out_channels)]
    return layers if activation is None else [*layers, activation(inplace=True)]


def depthwise(
    channels: int, kernel: int, stride: int = 1, activation: type[nn.Module] | None = None
) -> list[nn.Module]:
    """Return a depthwise convolution with BatchNorm and, unless None, the activation."""
    return _normed(DepthwiseConv2d(channels, kernel, stride), activation)


def interleave_channels(x: Tensor) -> Tensor:
    """Shuffle channels in two groups (Zhang et al. 2018): of (N, C, H, W), 0, C/2, 1, C/2 + 1, ... in this order.

    The memory layout is kept. torch's own kernel does so on CPUs only; elsewhere an NHWC tensor would come back NCHW.
    """
    if x.device.type != "cpu" and x.is_contiguous(memory_format=torch.channels_last):
        return _interleave_nhwc(x)
    return F.channel_shuffle(x, 2)


def _interleave_nhwc(x: Tensor) -> Tensor:
    """Do the same by views of the NHWC memory and one copy."""
    halves = x.permute(0, 2, 3, 1).unflatten(3, (2, x.shape[1] // 2))
    return halves.transpose(3, 4).flatten(3).permute(0, 3, 1, 2)


NARROW = 24
"""Channels up to which one interleaving copy of two NHWC halves is faster on CPUs than joining and then shuffling them:
3 to 10 times at 8 to 24, slower at 32 (measured at 8 to 32 pixels, one thread and two)."""
PAIRED = 64
"""Channels up to which pairs of numbers, written as complex ones, are faster still than joining and shuffling float32:
1.7 times at 64 channels and 32 pixels, no gain at 160. They have no gradient here."""


def interleaved(first: Tensor, second: Tensor) -> Tensor:
    """Return the channels of both, each (N, C/2, H, W), in turns: what `interleave_channels` makes of them joined.

    The parts may differ in width; they are in the same memory layout, which is kept.
    """
    width = first.shape[1] + second.shape[1]
    nhwc = second.is_contiguous(memory_format=torch.channels_last) and not second.is_contiguous()
    copied = first.device.type == "cpu" and first.shape[1] == second.shape[1] and nhwc and first.stride(1) == 1
    if copied and width <= NARROW:
        halves = torch.stack((first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)), dim=4)
        return halves.flatten(3).permute(0, 3, 1, 2)
    if copied and width <= PAIRED and first.dtype == second.dtype == torch.float32 and not torch.is_grad_enabled():
        pairs = torch.complex(first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1))
        return torch.view_as_real(pairs).flatten(3).permute(0, 3, 1, 2)
    return interleave_channels(torch.cat((first, second), dim=1))


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit that keeps the shape: half of the channels pass, the others go through the branch."""

    def __init__(self, branch: nn.Sequential) -> None:
        """Take the branch, C/2 channels to C/2 channels."""
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        kept, changed = x.chunk(2, dim=1)
        return interleaved(kept, self.branch(changed))


class ShuffleDownUnit(nn.Module):
    """ShuffleNetV2's unit that changes stride or channels: all channels go through both branches."""

    def __init__(self, projection: nn.Sequential, branch: nn.Sequential) -> None:
        """Take two branches that see the whole input and whose output channels add up."""
        super().__init__()
        self.projection = projection
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride)."""
        return interleaved(self.projection(x), self.branch(x))


def shuffle_unit(inputs: int, outputs: int, stride: int, kernel: int, xception: bool = False) -> nn.Module:
    """Return a unit of the Single Path One-Shot space (Guo et al. 2020, section 4; Ma et al. 2018 for ShuffleNetV2).

    The branch is 1x1, depthwise `kernel`, 1x1; with `xception` it is three depthwise-separable convolutions. Its inner
    width is half of the output. A unit that changes stride or channels has a projection (depthwise, 1x1) as wide as
    its input, as published; where the output is no wider than the input, as wide as half of the output.
    """
    middle = outputs // 2
    if stride == 1 and inputs == outputs:
        return ShuffleUnit(_shuffle_branch(middle, middle, middle, 1, kernel, xception))
    projected = inputs if inputs < outputs else outputs // 2
    projection = [
        *depthwise(inputs, kernel, stride),
        *conv_norm(inputs, projected, 1, activation=nn.ReLU),
    ]
    branch = _shuffle_branch(inputs, middle, outputs - projected, stride, kernel, xception)
    return ShuffleDownUnit(nn.Sequential(*projection), branch)


def _shuffle_branch(inputs: int, middle: int, outputs: int, stride: int, kernel: int, xception: bool) -> nn.Sequential:
    if xception:
        separable = [
            *depthwise(inputs, kernel, stride),
            *conv_norm(inputs, middle, 1, activation=nn.ReLU),
            *depthwise(middle, kernel),
            *conv_norm(middle, middle, 1, activation=nn.ReLU),
            *depthwise(middle, kernel),
            *conv_norm(middle, outputs, 1, activation=nn.ReLU),
        ]
        return nn.Sequential(*separable)
    return nn.Sequential(
        *conv_norm(inputs, middle, 1, activation=nn.ReLU),
        *depthwise(middle, kernel, stride),
        *conv_norm(middle, outputs, 1, activation=nn.ReLU),
    )


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018): 1x1 to the expanded width, depthwise, linear 1x1 back.

    The input is added where the shape is kept. At expansion 1 the first 1x1 is left out, as published.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int, expansion: int) -> None:
        """Build the branch; `expansion` is the ratio of inner to input channels."""
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.branch = nn.Sequential(
            *(conv_norm(inputs, inner, 1, activation=nn.ReLU6) if expansion > 1 else []),
            *depthwise(inner, kernel, stride, activation=nn.ReLU6),
            *conv_norm(inner, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride)."""
        y: Tensor = self.branch(x)
        return x + y if self.residual else y


class BasicBlock(nn.Module):
    """ResNet's basic block (He et al. 2016): two 3x3 convolutions, the shortcut added before the last ReLU.

    The shortcut has no parameters (their option A): where the shape changes it takes every `stride`-th pixel and puts
    channels of zeros, half of them each, before and behind those of the input, as the public CIFAR codes do.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Build the branch; `outputs` is at least `inputs`."""
        super().__init__()
        self.stride = stride
        more = outputs - inputs
        self.padding = (more // 2, more - more // 2)
        self.branch = nn.Sequential(
            *conv_norm(inputs, outputs, 3, stride, activation=nn.ReLU),
            *conv_norm(outputs, outputs, 3),
        )

    def shortcut(self, x: Tensor) -> Tensor:
        """Return what is added to the branch's output."""
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if any(self.padding):
            x = F.pad(x, (0, 0, 0, 0, *self.padding))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride)."""
        y: Tensor = self.branch(x)
        return F.relu(y + self.shortcut(x))


class Gate(nn.Module):
    """A factor for each channel, 0 at first: what it ends then adds exactly nothing (Bachlechner et al. 2021, ReZero).

    At 0 it alone has a gradient; what lies before it has one from the next step on.
    """

    def __init__(self, channels: int) -> None:
        """Begin with zeros."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        """Set all factors to 0."""
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape; in half precision the factors are rounded, so that sums stay in it."""
        return x * self.weight.to(x.dtype).view(1, -1, 1, 1)


class GlobalPool(nn.Module):
    """Mean over the pixels; unlike adaptive pooling its gradient on CUDA is deterministic."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        return x.mean(dim=(2, 3))
