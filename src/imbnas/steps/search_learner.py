"""The learner of the method `darts`, which begins with the adapted supernet's weights."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from imbnas.differentiable.learners import Bilateral, Classifier, Learner, Twins
from imbnas.differentiable.mixed_cell import RelaxedCells
from imbnas.errors import UserError
from imbnas.longtail.heads import LINEAR, make_head
from imbnas.params.differentiable import FROZEN, DartsParams, idle_option
from imbnas.params.loss_options import LOSSES
from imbnas.params.search import SearchView
from imbnas.seeds import derive
from imbnas.spaces.cells import CellSupernet
from imbnas.spaces.darts_network import SearchNetwork
from imbnas.spaces.space import SearchSpace
from imbnas.steps.rows import Rows
from imbnas.steps.supernets import read_supernet


class Loaded(NamedTuple):
    """A learner, whether its weights stay as they are, and the scale of its classifier."""

    learner: Learner
    frozen: bool
    scale: float


def load_learner(view: SearchView, path: Path, space: SearchSpace, rows: Rows) -> Loaded:
    """Return the learner that begins with the adapted weights, and whether these stay as they are."""
    info, params = rows.split.info, view.search.darts
    weights, meta = read_supernet(path, view.space, "adapt")
    if len(meta["classes"]) != len(info.classes) or meta["shape"] != list(info.shape):
        raise UserError(f"{path}: made for other classes or images than the target's, run adapt")
    head = meta.get("head", LINEAR)
    if LOSSES[params.loss].cosine and params.objective == "labels" and head["name"] != "cosine":
        raise UserError(
            f"search.darts.loss: found {params.loss} with a {head['name']} classifier in {path}, expected a "
            "cosine one (adapt.classifier.name): its margins are on cosines"
        )
    torch.manual_seed(derive(view.seed, "search", "weights"))
    supernet = space.build_supernet(len(info.classes), info.shape[2])
    supernet.head = make_head(head, space.num_features, len(info.classes))
    supernet.load_state_dict(weights)
    frozen = meta["recipe"]["strategy"] in FROZEN
    if isinstance(supernet, CellSupernet):
        network: SearchNetwork | RelaxedCells = RelaxedCells(supernet, learned=not frozen)
    else:
        assert isinstance(supernet, SearchNetwork)
        network = supernet
        if params.collapse.skip != "none":
            _add_skips(network)
    learner = _wrapped(network, params, space.num_features, fresh=meta["recipe"]["strategy"] == "scratch")
    if frozen:
        learner.requires_grad_(False)
        # The parameters are refused for this; the file may be of others.
        if idle := idle_option(params, meta["recipe"]["strategy"]):
            raise UserError(idle)
    return Loaded(learner, frozen, float(head.get("scale", 1.0)))


def _add_skips(network: SearchNetwork) -> None:
    for cell in network.search_cells():
        cell.add_skips()


def _wrapped(network: SearchNetwork | RelaxedCells, params: DartsParams, features: int, *, fresh: bool) -> Learner:
    if params.objective == "barlow-twins":
        barlow = params.barlow
        return Twins(network, features, barlow.hidden, barlow.outputs, barlow.off_diagonal, barlow.labels)
    if params.branches == "bilateral":
        assert isinstance(network, SearchNetwork)  # the parameters refuse another space
        return Bilateral(network, fresh=fresh)
    return Classifier(network)
