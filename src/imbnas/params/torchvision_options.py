"""Options of the space `torchvision`: which of the library's classifiers, and how many features its head sees."""

from __future__ import annotations

from typing import Literal

from imbnas.params.section import Section

ModelName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
]
FEATURES: dict[str, int] = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 1024,
    "mobilenet_v3_large": 1280,
    "efficientnet_b0": 1280,
    "shufflenet_v2_x1_0": 1024,
}
"""What each model's last linear layer sees."""


class TorchvisionChoices(Section):
    """Options of the `torchvision` space."""

    model: ModelName = "resnet18"
    """The classifier, by torchvision's name of it."""
