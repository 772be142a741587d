"""The learner of the method `darts`, which begins with the adapted supernet's weights."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from imbnas.differentiable.learners import Bilateral, Classifier, Learner, Twins
from imbnas.differentiable.mixed_cell import RelaxedCells
from imbnas.differentiable.mixed_stages import RelaxedStages
from imbnas.errors import UserError
from imbnas.params.differentiable import FROZEN, DartsParams, idle_option
from imbnas.params.longtail import ANGULAR
from imbnas.params.search import SearchView
from imbnas.seeds import derive
from imbnas.spaces.cells import CellSupernet
from imbnas.spaces.darts_network import SearchNetwork
from imbnas.spaces.space import SearchSpace
from imbnas.spaces.stage_cells import StageCellsSpace
from imbnas.spaces.stage_supernet import StageSupernet
from imbnas.steps.rows import Rows
from imbnas.steps.supernets import build_adapted, read_adapted


class Loaded(NamedTuple):
    """A learner, whether its weights stay as they are, and the scale of its classifier."""

    learner: Learner
    frozen: bool
    scale: float

    def trained(self) -> dict[str, Tensor] | None:
        """Return the weights of a supernet that the search has trained, None where it has trained none."""
        network = self.learner.network
        return None if self.frozen or not isinstance(network, RelaxedCells) else network.supernet_state()


def load_learner(view: SearchView, path: Path, space: SearchSpace, rows: Rows) -> Loaded:
    """Return the learner that begins with the adapted weights, and whether these stay as they are."""
    params = view.search.darts
    adapted = read_adapted(path, view.space, rows.split.info)
    head, strategy = adapted.head, adapted.meta["recipe"]["strategy"]
    if params.on_cosines and head["name"] not in ANGULAR:
        name, _, loss = params.on_cosines.partition(" is ")
        raise UserError(
            f"search.darts.{name}: found {loss} with a {head['name']} classifier in {path}, expected a "
            "cosine one (adapt.classifier.name): its margins are on cosines"
        )
    torch.manual_seed(derive(view.seed, "search", "weights"))
    supernet = build_adapted(space, adapted)
    frozen = strategy in FROZEN
    if isinstance(supernet, StageSupernet):
        assert isinstance(space, StageCellsSpace)
        network: SearchNetwork | RelaxedCells = RelaxedStages(supernet, space, learned=not frozen)
    elif isinstance(supernet, CellSupernet):
        network = RelaxedCells(supernet, learned=not frozen, none=params.relaxation != "sigmoid")
    else:
        assert isinstance(supernet, SearchNetwork)
        network = supernet
        if params.collapse.skip != "none":
            _add_skips(network)
    learner = _wrapped(network, params, space.num_features, fresh=strategy == "scratch")
    if frozen:
        learner.requires_grad_(False)
        # The parameters are refused for this; the file may be of others.
        if idle := idle_option(params, strategy):
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
        return Bilateral(network, fresh=fresh)
    return Classifier(network)
