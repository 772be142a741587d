"""The blocks of MobileNetV3 as networks have them, and elastic ones that hold all of a supernet's (Cai et al. 2020).

An elastic block has the weights of its largest form: 7x7 kernels and the widest expansion. A narrower one takes the
first channels. A smaller kernel is the centre of the next larger one, through a matrix that all channels share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.params.ofa_options import EXPANSIONS, KERNELS, divisible

_LARGEST = max(KERNELS)
_NORM = ("weight", "bias", "running_mean", "running_var")


def inner_width(inputs: int, expansion: int) -> int:
    """Return the channels between a block's first and last convolution."""
    return divisible(inputs * expansion)


def squeezed_width(channels: int) -> int:
    """Return the channels within squeeze-and-excitation."""
    return divisible(channels // 4)


class SqueezeExcite(nn.Module):
    """Channels weighted by a function of their means (Hu et al. 2018), with a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        """Build two 1x1 convolutions."""
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed_width(channels), 1)
        self.excite = nn.Conv2d(squeezed_width(channels), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape; of fewer channels than it was built for, by the first weights."""
        channels = x.shape[1]
        inner, reduce, excite = squeezed_width(channels), self.reduce, self.excite
        assert reduce.bias is not None
        assert excite.bias is not None
        means = x.mean(dim=(2, 3), keepdim=True)
        hidden = F.relu(F.conv2d(means, reduce.weight[:inner, :channels], reduce.bias[:inner]))
        return x * F.hardsigmoid(F.conv2d(hidden, excite.weight[:channels, :inner], excite.bias[:channels]))


class MobileV3Block(nn.Module):
    """MobileNetV3's block (Howard et al. 2019): 1x1 to the inner width, depthwise, squeeze-excitation, linear 1x1 back.

    The input is added where the shape is kept.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        inner: int,
        kernel: int,
        stride: int,
        activation: type[nn.Module],
        *,
        squeeze: bool,
        expand: bool = True,
    ) -> None:
        """Build the branch, without its first 1x1 convolution unless `expand`."""
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.expand = nn.Conv2d(inputs, inner, 1, bias=False) if expand else None
        self.expand_norm = nn.BatchNorm2d(inner) if expand else None
        self.depthwise = nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(inner)
        self.activation = activation()
        self.squeeze = SqueezeExcite(inner) if squeeze else None
        self.project = nn.Conv2d(inner, outputs, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride)."""
        y = x
        if self.expand is not None and self.expand_norm is not None:
            y = self.activation(self.expand_norm(self.expand(y)))
        y = self.activation(self.depthwise_norm(self.depthwise(y)))
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project_norm(self.project(y))
        return x + y if self.residual else y


class ElasticNorm(nn.BatchNorm2d):
    """BatchNorm whose first channels normalise an input of fewer."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W), C up to the layer's own, to the same shape; the other channels' statistics stay."""
        count = x.shape[1]
        if count == self.num_features:
            return super().forward(x)
        mean, variance, tracked = self.running_mean, self.running_var, self.num_batches_tracked
        assert mean is not None
        assert variance is not None
        assert tracked is not None
        share = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats:
            tracked.add_(1)
            share = 1.0 / float(tracked) if self.momentum is None else share
        own = self.training and not self.track_running_stats
        return F.batch_norm(
            x,
            None if own else mean[:count],
            None if own else variance[:count],
            self.weight[:count],
            self.bias[:count],
            self.training,
            share,
            self.eps,
        )


class KernelMaps(nn.Module):
    """The matrices from the centre of a kernel to the next smaller kernel, identities at first."""

    def __init__(self) -> None:
        """Build one for each kernel but the largest."""
        super().__init__()
        self.to5 = nn.Parameter(torch.empty(25, 25))
        self.to3 = nn.Parameter(torch.empty(9, 9))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set both to the identity: a smaller kernel is the centre of the larger one."""
        nn.init.eye_(self.to5)
        nn.init.eye_(self.to3)


def kernel_of(weight: Tensor, to5: Tensor, to3: Tensor, kernel: int) -> Tensor:
    """Return the (C, 1, kernel, kernel) weights that 7x7 ones (C, 1, 7, 7) stand for."""
    for size, matrix in ((5, to5), (3, to3)):
        if kernel > size:
            break
        centre = weight[:, :, 1:-1, 1:-1].reshape(len(weight), size * size)
        weight = F.linear(centre, matrix).view(len(weight), 1, size, size)
    return weight


class ElasticDepthwise(nn.Conv2d):
    """A depthwise convolution of searched kernel: 7x7 weights, and the matrices to the smaller kernels."""

    def __init__(self, channels: int, stride: int) -> None:
        """Take the most channels."""
        super().__init__(channels, channels, _LARGEST, stride, _LARGEST // 2, groups=channels, bias=False)
        self.maps = KernelMaps()

    def chosen(self, x: Tensor, kernel: int) -> Tensor:
        """Convolve (N, C, H, W), C up to the layer's own, with one of the kernels."""
        channels = x.shape[1]
        weight = kernel_of(self.weight[:channels], self.maps.to5, self.maps.to3, kernel)
        return F.conv2d(x, weight, None, self.stride, kernel // 2, groups=channels)


class ElasticBlock(nn.Module):
    """All forms of one block of MobileNetV3 that differ in kernel and expansion."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: type[nn.Module], *, squeeze: bool) -> None:
        """Build the largest form."""
        super().__init__()
        inner = inner_width(inputs, max(EXPANSIONS))
        self.residual = stride == 1 and inputs == outputs
        self.expand = nn.Conv2d(inputs, inner, 1, bias=False)
        self.expand_norm = ElasticNorm(inner)
        self.depthwise = ElasticDepthwise(inner, stride)
        self.depthwise_norm = ElasticNorm(inner)
        self.activation = activation()
        self.squeeze = SqueezeExcite(inner) if squeeze else None
        self.project = nn.Conv2d(inner, outputs, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, kernel: int, expansion: int) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride) in the form of this kernel and expansion."""
        inner = inner_width(x.shape[1], expansion)
        y = self.activation(self.expand_norm(F.conv2d(x, self.expand.weight[:inner])))
        y = self.activation(self.depthwise_norm(self.depthwise.chosen(y, kernel)))
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project_norm(F.conv2d(y, self.project.weight[:, :inner]))
        return x + y if self.residual else y


class Chosen(nn.Module):
    """An elastic block in one of its forms, sharing its weights."""

    def __init__(self, block: ElasticBlock, kernel: int, expansion: int) -> None:
        super().__init__()
        self.block, self.kernel, self.expansion = block, kernel, expansion

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride)."""
        return cast(Tensor, self.block(x, self.kernel, self.expansion))


def chosen_state(state: Mapping[str, Tensor], kernel: int, expansion: int) -> dict[str, Tensor]:
    """Return the state of a `MobileV3Block` of one form from an elastic block's, both without a prefix."""
    inner = inner_width(state["expand.weight"].shape[1], expansion)
    maps = state["depthwise.maps.to5"], state["depthwise.maps.to3"]
    chosen = {
        "expand.weight": state["expand.weight"][:inner],
        "depthwise.weight": kernel_of(state["depthwise.weight"][:inner], *maps, kernel),
        "project.weight": state["project.weight"][:, :inner],
    }
    for norm in ("expand_norm", "depthwise_norm", "project_norm"):
        # The block's output has all its channels in every form.
        count = None if norm == "project_norm" else inner
        chosen |= {f"{norm}.{name}": state[f"{norm}.{name}"][:count] for name in _NORM}
        chosen[f"{norm}.num_batches_tracked"] = state[f"{norm}.num_batches_tracked"]
    if "squeeze.reduce.weight" in state:
        within = squeezed_width(inner)
        chosen["squeeze.reduce.weight"] = state["squeeze.reduce.weight"][:within, :inner]
        chosen["squeeze.reduce.bias"] = state["squeeze.reduce.bias"][:within]
        chosen["squeeze.excite.weight"] = state["squeeze.excite.weight"][:inner, :within]
        chosen["squeeze.excite.bias"] = state["squeeze.excite.bias"][:inner]
    return chosen


class FeatureMix(nn.Module):
    """Mean over the pixels, then a 1x1 convolution without BatchNorm and h-swish."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build the convolution."""
        super().__init__()
        self.mix = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to features (N, F)."""
        return F.hardswish(self.mix(x.mean(dim=(2, 3), keepdim=True))).flatten(1)
