"""Learners of a differentiable search: a network with its loss on a batch, one per way of reading the long tail."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imbnas.differentiable.barlow import Projector, barlow_twins
from imbnas.differentiable.mixed_cell import RelaxedCells
from imbnas.errors import UserError
from imbnas.spaces.darts_network import SearchNetwork
from imbnas.spaces.networks import classify, init_head
from imbnas.spaces.relaxed import Relaxed
from imbnas.training.definition import Loss


@dataclass(frozen=True)
class Draw:
    """One draw of a sampler, augmented: images (N, C, H, W) and labels (N,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Setting:
    """The inputs of a loss besides batch and weights: the loss on labels and the branches' mixing factor."""

    loss: Loss
    mixing: float = 1.0


class Learner(nn.Module, ABC):
    """A search network with its head or heads. `draws` says how many samplers feed a batch, `views` how many
    augmentations of each draw there are.
    """

    network: SearchNetwork | RelaxedCells
    draws = 1
    views = 1
    scored = True

    @abstractmethod
    def loss(self, batch: Sequence[Draw], relaxed: Relaxed, setting: Setting) -> Tensor:
        """Return the loss on the batch's draws and views."""

    @abstractmethod
    def forward(self, images: Tensor, relaxed: Relaxed) -> Tensor:
        """Return the logits (N, classes) by which the network is judged."""


class Classifier(Learner):
    """A search network with its linear head, trained on labels."""

    def __init__(self, network: SearchNetwork | RelaxedCells) -> None:
        super().__init__()
        self.network = network

    def loss(self, batch: Sequence[Draw], relaxed: Relaxed, setting: Setting) -> Tensor:
        """Return the loss on the one draw."""
        (draw,) = batch
        return setting.loss(self(draw.images, relaxed), draw.labels)

    def forward(self, images: Tensor, relaxed: Relaxed) -> Tensor:
        """Return the logits (N, classes)."""
        logits: Tensor = self.network(images, relaxed)
        return logits


class Bilateral(Learner):
    """Two branches after BBN (Zhou et al. 2020): stem and cells are shared, the last cell and the classifier are not.

    What follows the last cell before the pooling, BatchNorm and ReLU in NAS-Bench-201, is there twice with it. Both
    last cells have the same architecture parameters and weights of their own. The features of a uniform draw go through
    one of them, those of a re-balancing draw through the other; f = 2 cat(a f_c, (1 - a) f_r) meets one linear
    layer, and the loss is a L(z, y_c) + (1 - a) L(z, y_r). A single image is judged by cat(f_c, f_r), that is at
    a = 0.5.
    """

    draws = 2

    def __init__(self, network: SearchNetwork | RelaxedCells, *, fresh: bool) -> None:
        """Duplicate the last cell and double the head.

        `fresh` draws both anew from torch's global generator; else they are copied, the head halved, so that a trained
        network answers as before.
        """
        super().__init__()
        self.network = network
        self.rebalancing = copy.deepcopy(network.tail)
        old = network.head
        if not isinstance(old, nn.Linear):
            raise UserError(
                f"search.darts.branches: found bilateral with a {type(old).__name__} as classifier, expected one "
                "branch or a linear classifier (adapt.classifier, adapt.head): it is doubled"
            )
        self.head = nn.Linear(2 * old.in_features, old.out_features)
        if fresh:
            _renew(self.rebalancing)
            init_head(self.head)
        else:
            with torch.no_grad():
                self.head.weight.copy_(torch.cat([old.weight, old.weight], dim=1) / 2.0)
                self.head.bias.copy_(old.bias)
        # Its place is taken; without a loss it would only cost memory.
        network.head.requires_grad_(False)

    def features(self, images: Tensor, relaxed: Relaxed, *tails: nn.Module) -> list[Tensor]:
        """Return what branches make of images (N, C, H, W), which go through the trunk once."""
        network: Any = self.network
        mixes = network.mixes(relaxed)
        states = network.trunk(images, mixes)
        return [network.last_features(states, mixes, tail) for tail in tails]

    def mixed(self, uniform: Tensor, balanced: Tensor, mixing: float) -> Tensor:
        """Return the logits of two branches' features at a mixing factor."""
        return classify(self.head, 2.0 * torch.cat([mixing * uniform, (1.0 - mixing) * balanced], dim=1))

    def loss(self, batch: Sequence[Draw], relaxed: Relaxed, setting: Setting) -> Tensor:
        """Return the mixed loss on a uniform and a re-balancing draw; of a single draw that of both branches."""
        if len(batch) == 1:
            return setting.loss(self(batch[0].images, relaxed), batch[0].labels)
        first, second = batch
        (uniform,) = self.features(first.images, relaxed, self.network.tail)
        (balanced,) = self.features(second.images, relaxed, self.rebalancing)
        logits = self.mixed(uniform, balanced, setting.mixing)
        share = setting.mixing
        return share * setting.loss(logits, first.labels) + (1.0 - share) * setting.loss(logits, second.labels)

    def forward(self, images: Tensor, relaxed: Relaxed) -> Tensor:
        """Return the logits (N, classes) of single images: both branches, mixed equally."""
        uniform, balanced = self.features(images, relaxed, self.network.tail, self.rebalancing)
        return self.mixed(uniform, balanced, 0.5)


class Twins(Learner):
    """Barlow Twins on two views of each image, with or without a loss on labels beside it.

    Without one (`supervised` 0) nothing here reads a label, and the network has no classifier by which to be judged.
    """

    views = 2

    def __init__(
        self,
        network: SearchNetwork | RelaxedCells,
        features: int,
        hidden: int,
        outputs: int,
        off_diagonal: float,
        supervised: float,
    ) -> None:
        """Add a projector on `features`.

        `supervised` is the weight of the loss on labels, `off_diagonal` the formula's lambda.
        """
        super().__init__()
        self.network = network
        self.projector = Projector(features, hidden, outputs)
        self._off_diagonal, self._supervised = off_diagonal, supervised
        self.scored = supervised > 0.0
        if not self.scored:
            network.head.requires_grad_(False)

    def loss(self, batch: Sequence[Draw], relaxed: Relaxed, setting: Setting) -> Tensor:
        """Return the loss on two views, divided by the number of outputs; and that of the first view's logits."""
        first, second = batch
        seen = self.network.features(first.images, relaxed)
        outputs = self.projector(seen), self.projector(self.network.features(second.images, relaxed))
        total = barlow_twins(outputs[0], outputs[1], self._off_diagonal) / self.projector.outputs
        if self._supervised:
            total = total + self._supervised * setting.loss(classify(self.network.head, seen), first.labels)
        return total

    def forward(self, images: Tensor, relaxed: Relaxed) -> Tensor:
        """Return the logits (N, classes)."""
        logits: Tensor = self.network(images, relaxed)
        return logits


def _renew(cell: nn.Module) -> None:
    """Draw a cell's weights anew from torch's global generator."""
    for module in cell.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
