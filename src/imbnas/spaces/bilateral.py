"""Two-branch networks for BBN, the bilateral-branch network (Zhou et al. 2020, arXiv 1912.02413).

Zhou et al. share everything but the last residual block. Here the trunk ends one stage before the last, so that the
same rule holds for every space: the last stage's blocks and the last convolution are there twice. On ResNet-32 that
costs four more blocks than in their code.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from imbnas.spaces.blocks import GlobalPool
from imbnas.spaces.networks import classify


class Branch(nn.Module):
    """The end of a network, from the trunk's output to features: last stage, last convolution, pooling."""

    def __init__(self, blocks: Iterable[nn.Module], last: nn.Module, pool: nn.Module | None = None) -> None:
        """Take the parts, whose channels must fit each other; `pool` is a mean over the pixels by default."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.last = last
        self.pool = GlobalPool() if pool is None else pool

    def forward(self, x: Tensor) -> Tensor:
        """Map the trunk's output (N, C, H, W) to features (N, F)."""
        for step in (*self.blocks, self.last, self.pool):
            x = step(x)
        return x


class BilateralSubnet(nn.Module):
    """One architecture with a shared trunk, a conventional and a re-balancing branch, and a head on both features.

    State keys start with `stem.`, `blocks.<i>.` (the trunk's blocks), `branches.0.` (conventional), `branches.1.`
    (re-balancing) and `head.`; a branch has `blocks.<i>.`, counted from 0 in the last stage, and `last.`.
    """

    def __init__(
        self,
        stem: nn.Module,
        blocks: Iterable[nn.Module],
        branches: tuple[Branch, Branch],
        head: nn.Module,
    ) -> None:
        """Take the parts, whose channels must fit each other; the head sees 2 F features, the conventional first."""
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.branches = nn.ModuleList(branches)
        self.head = head

    def trunk(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to what both branches see."""
        for step in (self.stem, *self.blocks):
            x = step(x)
        return x

    def features(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to both branches' features side by side, (N, 2 F)."""
        shared = self.trunk(x)
        return torch.cat([branch(shared) for branch in self.branches], dim=1)

    def forward(self, images: Tensor, alpha: float | None = None) -> Tensor:
        """Map images to logits.

        Without `alpha`, in evaluation, both branches see all images (N, C, H, W): head([f_c; f_r]), (N, num_classes).

        With `alpha`, in training, the images (2 B, C, H, W) are a conventional half and, behind it, a re-balancing one.
        Each goes through the trunk by itself, normalised by its own statistics, and then through its branch: logits
        (B, num_classes) are head([2 alpha f_c; 2 (1 - alpha) f_r]), equations 2 and 3 of Zhou et al. with the factor 2
        of their code, by which alpha 0.5 is what evaluation computes. At alpha 1 the re-balancing branch and its half
        of the head get a gradient of exactly zero. Raises ValueError for an odd number of images.
        """
        if alpha is None:
            return classify(self.head, self.features(images))
        if len(images) % 2:
            raise ValueError(f"expected a conventional and a re-balancing half, found {len(images)} images")
        halves = zip(self.branches, images.chunk(2), (2.0 * alpha, 2.0 * (1.0 - alpha)), strict=True)
        mixed = torch.cat([factor * branch(self.trunk(half)) for branch, half, factor in halves], dim=1)
        return classify(self.head, mixed)
