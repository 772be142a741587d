"""The auxiliary head of the DARTS space: a second classifier in training, and the cell on which it looks."""

from __future__ import annotations

from torch import Tensor, nn


def tapped_cell(layers: int) -> int:
    """Return the cell on whose output an auxiliary head looks: the one at two thirds."""
    return 2 * layers // 3


class AuxiliaryHead(nn.Module):
    """A second classifier on the cell at two thirds of the depth, used in training only (Liu et al. 2019).

    ReLU, average pooling to 2x2, a 1x1 convolution to 128 channels and a 2x2 one to 768, then a linear layer. On 8x8
    the pooling is 5x5 with stride 3 as in the published code; its kernel follows the side elsewhere.
    """

    def __init__(self, channels: int, side: int, num_classes: int) -> None:
        """Take the channels and the side in pixels of the tapped cell's output."""
        super().__init__()
        size = min(2, side)
        kernel = min(side - size + 1, -(-5 * side // 8)) if size == 2 else 1
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(kernel, stride=max(1, side - kernel)),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 768, size, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map the tapped cell's output to logits (N, classes)."""
        logits: Tensor = self.head(self.layers(x).flatten(1))
        return logits
