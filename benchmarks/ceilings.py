"""What the hardware allows: rates measured by a large copy and a large matrix product, and the time of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

SIDE = {"cuda": 8192, "cpu": 2048}
"""Of the square matrices of the product."""
COPIED = {"cuda": 2**31, "cpu": 2**27}
"""Bytes of the copy."""


class Rates(NamedTuple):
    """Operations and bytes a second."""

    flops: float
    bytes: float


class Work(NamedTuple):
    """Of one image: floating-point operations, and bytes that its layers read and write."""

    flops: float
    bytes: float

    def seconds(self, rates: Rates) -> tuple[float, float]:
        """Return the seconds for the arithmetic, and those for the memory."""
        return self.flops / rates.flops, self.bytes / rates.bytes


def rates(device: torch.device, dtype: torch.dtype, least: Callable[[Callable[[], object]], float]) -> Rates:
    """Measure both, the product on random numbers of `dtype`; `least` returns the least seconds of a call."""
    side = SIDE[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = least(lambda: left @ right)
    source = torch.randint(0, 255, (COPIED[device.type],), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = least(lambda: target.copy_(source))
    return Rates(2 * side**3 / product, 2 * source.numel() / copy)


def work(model: nn.Module, images: Tensor, train: bool, width: int, macs: int, *arguments: Any) -> Work:
    """Count an image's share of a forward pass over `images`, of `macs`, and to `train` of the backward pass.

    Each layer reads its input and writes its output once, `width` bytes a number; back it reads both and the output's
    gradient, and writes the input's. The backward pass takes twice the operations of the forward pass. Layers that
    could be computed together with their neighbours are counted alone, as they run.
    """
    numbers = 0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal numbers
        there, out = inputs[0].numel(), output.numel()
        numbers += (3 * there + 2 * out) if train else (there + out)

    layers = [m for m in model.modules() if not list(m.children()) and not isinstance(m, nn.Identity)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        model(images, *arguments)
    for hook in hooks:
        hook.remove()
    return Work((3 if train else 1) * 2 * macs, width * numbers / len(images))
