"""The eight operations of DARTS (Liu et al. 2019, arXiv 1806.09055), for the search network and for derived ones.

No module changes its input in place: one tensor feeds many edges.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.spaces.blocks import of_operation

NONE, SKIP = "none", "skip_connect"
POOLS = ("max_pool_3x3", "avg_pool_3x3")
OPERATIONS = (NONE, *POOLS, SKIP, "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
"""All operations in the order that their indices mean."""


class ScaledNorm(nn.BatchNorm2d):
    """BatchNorm without own weights whose output is multiplied by one number, in the same pass over the memory."""

    def __init__(self, channels: int) -> None:
        """Normalise (N, `channels`, H, W)."""
        super().__init__(channels, affine=False)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Return `scale` (a tensor of no dimension; None: 1) times the normalised input; statistics as in torch."""
        if scale is None:
            return super().forward(x)
        tracking = self.track_running_stats
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and tracking and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        return F.batch_norm(
            x,
            self.running_mean if tracking else None,
            self.running_var if tracking else None,
            scale.expand(self.num_features),
            None,
            self.training or not tracking,
            factor,
            self.eps,
        )


def pooling(name: str, stride: int) -> nn.Module:
    """Return the 3x3 pooling; border pixels are averaged over what lies inside the image."""
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


def _depthwise(inputs: int, outputs: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel - 1) // 2
    return [
        nn.Conv2d(inputs, inputs, kernel, stride, padding, dilation, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
    ]


def _norm(channels: int, affine: bool) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=affine)


def conv_body(name: str, channels: int, stride: int, affine: bool) -> nn.Sequential:
    """Return a separable or dilated convolution without its first ReLU and its last BatchNorm."""
    kernel = 3 if name.endswith("3x3") else 5
    if name.startswith("dil"):
        return of_operation(name, nn.Sequential(*_depthwise(channels, channels, kernel, stride, 2)))
    layers = [
        *_depthwise(channels, channels, kernel, stride, 1),
        _norm(channels, affine),
        nn.ReLU(inplace=True),
        *_depthwise(channels, channels, kernel, 1, 1),
    ]
    return of_operation(name, nn.Sequential(*layers))


class Halves(nn.Module):
    """Halve the resolution by two 1x1 convolutions of stride 2, the second of them on pixels shifted by one.

    An odd side is extended by a row of zeros for the second one, so that both give the same shape.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """Map `inputs` channels to `outputs`."""
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.second = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/2 rounded up, W/2 rounded up)."""
        height, width = x.shape[2:]
        odd = F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x
        return torch.cat([self.first(x), self.second(odd[:, :, 1:, 1:])], dim=1)


def reduced(inputs: int, outputs: int, affine: bool) -> nn.Sequential:
    """Return DARTS' factorised reduction: ReLU, `Halves`, BatchNorm."""
    return nn.Sequential(nn.ReLU(), Halves(inputs, outputs), _norm(outputs, affine))


def projected(inputs: int, outputs: int, affine: bool) -> nn.Sequential:
    """Return ReLU, a 1x1 convolution and BatchNorm."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), _norm(outputs, affine))


def single(name: str, channels: int, stride: int) -> nn.Module:
    """Return an operation of a derived network: BatchNorm has weights, pooling has no BatchNorm."""
    if name in POOLS:
        return pooling(name, stride)
    if name == SKIP:
        return nn.Identity() if stride == 1 else of_operation(name, reduced(channels, channels, affine=True))
    return nn.Sequential(nn.ReLU(), conv_body(name, channels, stride, affine=True), _norm(channels, affine=True))
