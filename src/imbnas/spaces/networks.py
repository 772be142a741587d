"""The networks: a chain of stem, blocks, last convolution, pooling and a head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from imbnas.spaces.blocks import Gate, GlobalPool
from imbnas.spaces.elastic import KernelMaps

Architecture = tuple[int, ...]
"""The choice of each choice block, counted from 0."""

Net = TypeVar("Net", bound=nn.Module)


def classify(head: nn.Module, features: Tensor) -> Tensor:
    """Return a head's scores of features (N, F), in float32 where the rest of the network runs in half precision.

    Scores with eight bits tie, and arg max breaks ties in favour of the lower index: in a long tail, the head classes.
    """
    device = features.device.type
    if not torch.is_autocast_enabled(device):
        scores: Tensor = head(features)
        return scores
    with torch.autocast(device, enabled=False):
        scores = head(features.float())
    return scores


class Supernet(nn.Module):
    """All candidates of all choice blocks; one forward pass takes the path that an architecture names.

    The head is any module from features (N, num_features) to scores (N, num_classes); spaces build a linear one.
    `blocks[i][c]` is candidate c of block i. State keys start with `stem.`, `blocks.<i>.<c>.`, `last.` and `head.`.
    """

    def __init__(
        self,
        stem: nn.Module,
        blocks: Iterable[Iterable[nn.Module]],
        last: nn.Module,
        head: nn.Module,
        pool: nn.Module | None = None,
    ) -> None:
        """Take the parts, whose channels must fit each other; `pool` is a mean over the pixels by default."""
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(nn.ModuleList(candidates) for candidates in blocks)
        self.last = last
        self.pool = GlobalPool() if pool is None else pool
        self.head = head

    def steps(self, architecture: Architecture) -> list[nn.Module]:
        """Return the path's modules, stem to pooling: each takes one tensor, the last gives (N, num_features)."""
        chosen = zip(self.blocks, architecture, strict=True)
        blocks = (cast(nn.ModuleList, candidates)[choice] for candidates, choice in chosen)
        return [self.stem, *blocks, self.last, self.pool]

    def capturable_modules(self) -> list[tuple[nn.Module, str]]:
        """Return the modules with parameters that make up passes, see `training.cuda_graphs.recorded_parts`."""
        candidates = [candidate for block in self.blocks for candidate in block.children()]
        return [
            (part, "forward") for part in (self.stem, *candidates, self.last) if any(True for _ in part.parameters())
        ]

    def shared_steps(self, first: Architecture, second: Architecture) -> int:
        """Return how many steps two different architectures have in common before they part."""
        return 1 + [a == b for a, b in zip(first, second, strict=True)].index(False)

    def features(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Map images (N, C, H, W) to what the head sees, (N, num_features)."""
        for step in self.steps(architecture):
            x = step(x)
        return x

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        return classify(self.head, self.features(x, architecture))


class Subnet(nn.Module):
    """One architecture on its own: a supernet's path without the choice dimension (`blocks.<i>.`)."""

    def __init__(
        self,
        stem: nn.Module,
        blocks: Iterable[nn.Module],
        last: nn.Module,
        head: nn.Module,
        pool: nn.Module | None = None,
    ) -> None:
        """Take the parts, whose channels must fit each other; `pool` is a mean over the pixels by default."""
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.last = last
        self.pool = GlobalPool() if pool is None else pool
        self.head = head

    def steps(self) -> list[nn.Module]:
        """Return the modules, stem to pooling: each takes one tensor, the last gives (N, num_features)."""
        return [self.stem, *self.blocks, self.last, self.pool]

    def features(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to what the head sees, (N, num_features)."""
        for step in self.steps():
            x = step(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        return classify(self.head, self.features(x))


def init_head(head: nn.Module) -> None:
    """Draw a linear head's weights from normal(0, 0.01) of torch's global generator; the bias is zero.

    Raises TypeError for another head, which whoever puts it in place initialises.
    """
    if not isinstance(head, nn.Linear):
        raise TypeError(f"expected a linear head, found {type(head).__name__}")
    nn.init.normal_(head.weight, 0.0, 0.01)
    nn.init.zeros_(head.bias)


def initialise(network: Net) -> Net:
    """Give a network that was built on the meta device memory on the CPU and its first weights, and return it.

    Convolutions: normal with variance 2 / (output channels x kernel area), torch's fan-out (He et al. 2015), which is
    small for depthwise ones, as in torchvision's MobileNetV2; their biases: 0. BatchNorm: weight 1, bias 0, statistics
    0 and 1. Head: `init_head`. Gates: 0. Maps of kernels: the identity. The draw depends on the global CPU generator
    of torch and on nothing else; seed it with torch.manual_seed.
    """
    for module in network.modules():
        _materialise(module)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | Gate | KernelMaps):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            init_head(module)
    return network


def _materialise(module: nn.Module) -> None:
    """Replace a module's own meta tensors by memory on the CPU.

    nn.Module.to_empty does the same, but its first call imports torch's symbolic shapes, which takes two seconds.
    """
    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(torch.empty(parameter.shape, device="cpu")))
    for name, buffer in list(module.named_buffers(recurse=False)):
        setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu"))


def subnet_state(state: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Return the part of a supernet's state that an architecture uses, under the subnet's names.

    The tensors are the same ones, not copies.
    """
    kept: dict[str, Tensor] = {}
    for key, value in state.items():
        if not key.startswith("blocks."):
            kept[key] = value
            continue
        _, block, choice, rest = key.split(".", 3)
        if int(choice) == architecture[int(block)]:
            kept[f"blocks.{block}.{rest}"] = value
    return kept
