"""A classifier of torchvision as a space of one network: the obvious alternative to a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.params.torchvision_options import FEATURES, TorchvisionChoices
from imbnas.spaces.bilateral import BilateralSubnet
from imbnas.spaces.blocks import of_operation
from imbnas.spaces.cost import CostTable, Meter, counting, measure
from imbnas.spaces.networks import Architecture, Subnet, Supernet, subnet_state
from imbnas.spaces.space import META, SearchSpace

_PLAIN = {
    "mobilenet_v2": {"dropout": 0.0},
    "mobilenet_v3_small": {"dropout": 0.0},
    "mobilenet_v3_large": {"dropout": 0.0},
    "efficientnet_b0": {"dropout": 0.0, "stochastic_depth_prob": 0.0},
}
"""Nothing draws from global randomness."""


@dataclass(frozen=True)
class Whole:
    """The one choice: the network itself."""

    label: str
    choices: tuple[str, ...]


class WholeSupernet(Supernet):
    """A supernet of one network, which is a block of its own."""

    def capturable_modules(self) -> list[tuple[nn.Module, str]]:
        """Return nothing: the network is not ours to take apart."""
        return []


class TorchvisionSpace(SearchSpace):
    """One architecture, all zeros: a classifier of torchvision up to its last linear layer, and a head on that."""

    name = "torchvision"

    def __init__(self, options: TorchvisionChoices) -> None:
        """Take the classifier's name; the library is imported when a network is built."""
        self.model = options.model
        super().__init__([Whole("network", (options.model,))], FEATURES[options.model])

    def supernet_on_meta(self, num_classes: int, channels: int) -> Supernet:
        """Return a supernet without memory for its weights; raise UserError for grey images."""
        with torch.device(META):
            blocks, head = [[self._body(channels)]], nn.Linear(self.num_features, num_classes)
            return WholeSupernet(nn.Identity(), blocks, nn.Identity(), head, nn.Identity())

    def subnet_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> Subnet:
        """Return a subnet without memory for its weights; raise UserError for grey images."""
        with torch.device(META):
            head = nn.Linear(self.num_features, num_classes)
            return Subnet(nn.Identity(), [self._body(channels)], nn.Identity(), head, nn.Identity())

    def bilateral_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> BilateralSubnet:
        """Raise UserError: a library's network has no last stage that could be there twice."""
        raise UserError("retrain.branches: found bilateral in the space torchvision, expected one")

    def subnet_state(self, supernet_state: dict[str, Tensor], architecture: Sequence[int]) -> dict[str, Tensor]:
        """Return a supernet's weights as the state of `build_subnet(architecture)`: the same tensors, renamed."""
        return subnet_state(supernet_state, self.check(architecture))

    def published_name(self, name: str) -> str:
        """Return the name in torchvision's checkpoint of the tensor that the supernet calls `name`."""
        if name.startswith("head."):
            return f"{_classifier(self._whole())}.{name.removeprefix('head.')}"
        return name.removeprefix("blocks.0.0.")

    def measure(self, image: tuple[int, int, int], num_classes: int, meter: Meter = counting) -> CostTable:
        """Return the cost of the network, as `meter` finds it."""
        return measure(self.supernet_on_meta(num_classes, image[2]), image, meter)

    def _whole(self) -> nn.Module:
        # It takes seconds to import, and this space alone needs it.
        from torchvision.models import get_model

        with torch.device(META):
            return cast(nn.Module, get_model(self.model, weights=None, **_PLAIN.get(self.model, {})))

    def _body(self, channels: int) -> nn.Module:
        """Return the classifier without its last linear layer."""
        if channels != 3:
            raise UserError(f"target.channels: found {channels} in the space torchvision, expected 3")
        whole = self._whole()
        parent, _, name = _classifier(whole).rpartition(".")
        setattr(whole.get_submodule(parent), name, nn.Identity())
        return of_operation(self.model, whole)


def _classifier(model: nn.Module) -> str:
    """Return the name of a classifier's last linear layer."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
