"""A trained mixture on its way from `search` to `retrain`, in models/handed.safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imbnas.data.stored import Info
from imbnas.errors import UserError
from imbnas.longtail.heads import make_head
from imbnas.metadata import HandedMixtureMeta, described
from imbnas.params.retrain import UNTRAINED, RetrainView
from imbnas.run.context import Context
from imbnas.spaces.networks import Subnet
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import META, SearchSpace
from imbnas.steps.handed import MIXTURE, check_images
from imbnas.steps.inherit import Inheritance
from imbnas.steps.supernets import check_space, head_of
from imbnas.training.checkpoint import load_header, load_tensors


@dataclass(frozen=True)
class HandedMixture:
    """A mixture's weights and metadata, as the search has handed them on."""

    weights: dict[str, Tensor]
    meta: dict[str, Any]
    space: SearchSpace

    @classmethod
    def read(cls, context: Context, view: RetrainView, chosen: dict[str, Any], info: Info) -> HandedMixture | None:
        """Return the mixture if the search has ended with one (`chosen`), None if with an architecture.

        Raises UserError where the file holds another one, and where the parameters would train it again.
        """
        if "mixture" not in chosen:
            return None
        if wrong := view.retrain.beside_mixture():
            raise UserError(f"{context.path('architecture')}: chosen is a mixture, and retrain.{wrong}{UNTRAINED}")
        path = context.path("handed")
        header = load_header(path, MIXTURE)
        found = described(HandedMixtureMeta, header.meta, path)
        check_space(path, header.meta, view.space, "search")
        check_images(path, header.meta, info, "search")
        if found.mixture != chosen["mixture"].get("weights"):
            raise UserError(f"{path}: another mixture than that of {context.path('architecture')}, run search")
        handed = cls({}, header.meta, make_space(view.space))
        header.check(handed.empty().state_dict())
        return cls(load_tensors(header), header.meta, handed.space)

    @property
    def head(self) -> dict[str, Any]:
        """Return the description of its classifier."""
        return head_of(self.meta)

    def empty(self) -> Subnet:
        """Return the network without memory for its weights."""
        classes = len(self.meta["classes"])
        model = self.space.mixture_on_meta(self.meta["mixture"], classes, self.meta["shape"][2])
        with torch.device(META):
            model.head = make_head(self.head, self.space.num_features, classes)
        return model

    def network(self) -> Subnet:
        """Return the network as it was searched, in evaluation mode."""
        model = self.empty()
        model.load_state_dict(self.weights, assign=True)
        return model.eval()

    @property
    def start(self) -> Inheritance:
        """Return what the network's metadata are to say of its weights."""
        return Inheritance({}, self.meta, with_head=True)

    def recipe(self, view: RetrainView) -> dict[str, Any]:
        """Return how the network was trained: the search's parameters, and those of a second stage."""
        head = view.retrain.head
        second = {} if head.name == "none" else {"head": head.model_dump(mode="json")}
        return {**self.meta["training"], "init": "handed", **second}
