"""The systems of the part `single-path`: a plain loop of Single Path One-Shot, and imbnas on the same network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from single_path_plain import LAST, REPEATS, STEM, STRIDES, WIDTHS, SinglePathPlain
from torch import nn
from worker import CLASSES, Ours, System, serve

if TYPE_CHECKING:
    from imbnas.params.space_options import SpaceParams


class Plain(System):
    """The plain loop; images are NCHW, and each step reads its loss and its accuracy back."""

    path: tuple[int, ...] = ()

    def build(self) -> nn.Module:
        """Return the model."""
        return SinglePathPlain(CLASSES)

    def take(self, path: list[int]) -> None:
        """Make the path the one of the next forward passes."""
        self.path = tuple(path)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Run the path."""
        out: torch.Tensor = self.model(images, self.path)
        return out

    def train(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Take one optimiser step."""
        self.optimizer.zero_grad()
        logits = self.logits(images)
        loss = self.loss(logits, labels)
        loss.backward()
        self.optimizer.step()
        _, top = logits.topk(5, 1)
        loss.item(), top.eq(labels.view(-1, 1)).sum().item()


class Shufflenet(Ours):
    """imbnas; steps are not clipped, as in the plain loop."""

    clip = 0.0

    def space_params(self) -> SpaceParams:
        """Return the same space."""
        from imbnas.params.space_options import SpaceParams, Stages, Stem

        stages = Stages(channels=list(WIDTHS), repeats=list(REPEATS), strides=list(STRIDES))
        stem = Stem(channels=STEM, stride=1)
        return SpaceParams(name="shufflenet", stem=stem, stages=stages, last_channels=LAST)


class ShufflenetBf16(Shufflenet):
    """The same in bfloat16."""

    precision = "bf16"


class Fast(Shufflenet):
    """With the parameters that are faster and give other bits: tiled gradients, BatchNorm folded while scoring."""

    channels_last = "tiled"

    def evaluate(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Run one evaluation batch; the path is folded for it."""
        from imbnas.training.folding import folded

        with folded(nn.ModuleList(self.model.steps(*self.arguments))):
            super().evaluate(images, labels)


class FastBf16(Fast):
    """The same in bfloat16."""

    precision = "bf16"


SYSTEMS = {
    "plain": Plain,
    "before": Shufflenet,
    "imbnas": Shufflenet,
    "imbnas-fast": Fast,
    "before-bf16": ShufflenetBf16,
    "imbnas-bf16": ShufflenetBf16,
    "imbnas-fast-bf16": FastBf16,
}

if __name__ == "__main__":
    serve(SYSTEMS)
