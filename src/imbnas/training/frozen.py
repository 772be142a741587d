"""A network of which only the head learns, and features that are computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.data.augment import Augment
from imbnas.data.images import ImageStore
from imbnas.data.order import Sampler
from imbnas.seeds import derive
from imbnas.training.batchnorm import batchnorms
from imbnas.training.runtime import Runtime

BatchNorm = Literal["frozen", "batch", "update"]


class Backbone(Protocol):
    """A network with a head on features."""

    head: nn.Module

    def features(self, images: Tensor, *path: Any) -> Tensor:
        """Return what the head sees, (N, F)."""
        ...


class FrozenBackbone(nn.Module):
    """A network whose backbone computes features without gradient: none of its parameters changes.

    `batchnorm` says how training batches are normalised: `frozen` by the running statistics (for one fixed path, whose
    statistics they are), `batch` by the batch's own; both leave every buffer as it is. `update` takes the batch's own
    and lets the running statistics follow.
    """

    def __init__(self, network: nn.Module, batchnorm: BatchNorm) -> None:
        """Freeze everything in `network` but its head."""
        super().__init__()
        self.network = network
        self._frozen = batchnorm == "frozen"
        network.requires_grad_(False)
        head: nn.Module = network.head  # type: ignore[assignment]
        head.requires_grad_(True)
        for layer in batchnorms(network):
            layer.track_running_stats = batchnorm != "batch"

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Set the training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self._frozen:
            self.network.eval()
        return self

    def forward(self, images: Tensor, *path: Any) -> Tensor:
        """Return the logits (N, classes) for normalised images (N, C, H, W); `path` is a supernet's architecture."""
        network: Backbone = self.network  # type: ignore[assignment]
        with torch.no_grad():
            features = network.features(images, *path)
        logits: Tensor = network.head(features)
        return logits


@torch.no_grad()
def compute_features(
    network: nn.Module,
    batches: Sequence[tuple[Tensor, Tensor]] | Iterator[tuple[Tensor, Tensor]],
    augment: Augment,
    runtime: Runtime,
    seed: int | None,
    *path: Any,
) -> tuple[Tensor, Tensor]:
    """Return features float32 (N, F) and labels int64 (N,) of batches of uint8 images, in the modules' present mode.

    With a seed the images are augmented, batch b by the stream of the seed and b; without one they are not.
    """
    model: Backbone = network  # type: ignore[assignment]
    features, labels = [], []
    for number, (images, classes) in enumerate(batches):
        generator = None if seed is None else torch.Generator().manual_seed(derive(seed, "features", number))
        with runtime.autocast():
            found = model.features(runtime.lay_out(augment(images, generator)), *path)
        features.append(found.float())
        labels.append(classes)
    return torch.cat(features), torch.cat(labels)


class FeatureStore:
    """Features in place of images: `views` passes over the same N rows, one behind the other."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        """Take features (views x N, F) and labels (views x N,), on one device."""
        self.features, self.labels = features, labels

    def batches(self, rows: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (features, labels) of each array of positions."""
        for chosen in rows:
            places = torch.from_numpy(np.ascontiguousarray(chosen)).to(self.features.device, non_blocking=True)
            yield self.features[places], self.labels[places]


class ViewSampler:
    """A sampler over `views` copies of its rows: epoch e visits the copy e modulo views."""

    def __init__(self, sampler: Sampler, rows: int, views: int) -> None:
        self._sampler, self._rows, self._views = sampler, rows, views

    def epoch(self, epoch: int) -> np.ndarray:
        """Return the positions of the 0-based epoch."""
        return self._sampler.epoch(epoch) + (epoch % self._views) * self._rows


def feature_views(
    network: nn.Module, store: ImageStore, augment: Augment, runtime: Runtime, views: int, batch_size: int, seed: int
) -> FeatureStore:
    """Return the features of all rows of a store from a network in evaluation mode, on its device.

    `views` augmented passes, each with draws of its own; 0: one pass over the plain images. They take views x N x F x 4
    bytes.
    """
    network.eval()
    passes = [
        compute_features(network, store.ordered(batch_size), augment, runtime, derive(seed, "view", view))
        for view in range(views)
    ] or [compute_features(network, store.ordered(batch_size), augment, runtime, None)]
    return FeatureStore(torch.cat([found for found, _ in passes]), torch.cat([labels for _, labels in passes]))
