"""BatchNorm folded into the convolutions before it, for networks whose statistics are settled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from imbnas.depthwise import DepthwiseConv2d

PLAIN = (nn.Conv2d, DepthwiseConv2d)
"""Convolutions that are what their weights say; others round them on the way."""


@contextmanager
def folded(model: nn.Module) -> Iterator[None]:
    """Let each convolution do the work of the BatchNorm layer that follows it in a sequence, in evaluation mode.

    A convolution's output y becomes (y - mean) / sqrt(variance + eps) * weight + bias by other weights and a bias of
    its own: the same but for rounding. Weights and statistics must not change within; then the model is as before.
    """
    before: list[tuple[nn.Sequential, str, nn.Module]] = []
    try:
        for sequence in [module for module in model.modules() if type(module) is nn.Sequential]:
            names = list(sequence._modules)
            for name, following in pairwise(names):
                conv, norm = sequence._modules[name], sequence._modules[following]
                if type(conv) not in PLAIN or type(norm) is not nn.BatchNorm2d or norm.training:
                    continue
                assert isinstance(conv, nn.Conv2d)
                with torch.no_grad():
                    together = fuse_conv_bn_eval(conv.eval(), norm)
                before += [(sequence, name, conv), (sequence, following, norm)]
                sequence._modules[name], sequence._modules[following] = together, nn.Identity()
        yield
    finally:
        for sequence, name, module in before:
            sequence._modules[name] = module
