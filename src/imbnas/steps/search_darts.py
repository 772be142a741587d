"""The method `darts` of the step `search`: gradient descent on a continuous architecture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from imbnas.data.samplers import InstanceSampler
from imbnas.data.split import write_table
from imbnas.differentiable import derive as rules
from imbnas.differentiable.cells import RelaxedCells
from imbnas.differentiable.learners import Bilateral, Classifier, Learner, Twins
from imbnas.differentiable.loop import BilevelSearch, search_architecture
from imbnas.differentiable.relaxation import ArchitectureParameters
from imbnas.differentiable.split import Feed, blind_halves, stratified_halves
from imbnas.differentiable.table import trajectory_table
from imbnas.errors import UserError
from imbnas.longtail.heads import LINEAR, make_head
from imbnas.longtail.metrics import standard_error
from imbnas.params.differentiable import FROZEN, DartsParams, idle_option
from imbnas.params.longtail import ClassifierParams, ClassifierTraining, SamplerParams
from imbnas.params.losses import LOSSES
from imbnas.params.recipe import RecipeParams
from imbnas.params.search import SearchView
from imbnas.run.context import Context
from imbnas.seeds import derive
from imbnas.spaces.cells import CellSupernet
from imbnas.spaces.chain import Architecture
from imbnas.spaces.darts_genotype import CELLS, decode, encode
from imbnas.spaces.darts_network import SearchNetwork
from imbnas.spaces.darts_ops import SKIP
from imbnas.spaces.relaxed import Relaxed
from imbnas.spaces.space import SearchSpace
from imbnas.steps.objective import make_objective, make_sampler
from imbnas.steps.rows import Rows, make_augment, make_store, validation_rows
from imbnas.steps.supernets import read_supernet
from imbnas.training.batchnorm import batchnorms
from imbnas.training.loop import Objective
from imbnas.training.runtime import Runtime
from imbnas.training.scoring import Batches, Scorer
from imbnas.training.state import ResumeState

REVERSED = SamplerParams(name="reversed")


@dataclass(frozen=True)
class Found:
    """The result of the search: the architecture, the search network's score, the rows that judged it (none: None)."""

    architecture: Architecture
    outcome: dict[str, Any]
    validation: Rows | None


class DartsSearch:
    """One differentiable search of the chain, from parameters and files."""

    def __init__(
        self, view: SearchView, context: Context, space: SearchSpace, tail: Rows, held_out: Rows, calibration: Rows
    ) -> None:
        """Take what the step has read; `calibration` are the rows that BatchNorm statistics are measured on."""
        self.view, self.context, self.space, self.tail = view, context, space, tail
        self.params: DartsParams = view.search.darts
        self.calibration = calibration
        validation = validation_rows(context, held_out)
        self.validation = validation if len(validation) and not self.params.blind else None
        self.runtime = Runtime(view.runtime)
        context.device = self.runtime.device_name
        self.state = ResumeState(context.state_path, "darts", context.state_interval, context.note_cost)
        self._batches: tuple[Batches, Batches] | None = None

    def run(self) -> Found:
        """Search, write results/search.parquet, and return what was found; `finish` forgets the saved state."""
        info, space = self.tail.split.info, self.space
        learner, frozen = self._learner()
        torch.manual_seed(derive(self.view.seed, "search", "architecture"))
        layout = learner.network.layout
        parameters = ArchitectureParameters(layout, self.params.relaxation, edge_weights=self.params.edge_weights)
        search = self._search(learner, parameters, frozen)
        if self.validation is None:
            self.context.log("no validation rows judge the search network: its trajectory has no score")
        with self.state.held():
            rows, chosen = search_architecture(search, self.runtime, self.state, self.context.log)
        table = space.cost_table(info.shape, len(info.classes))
        write_table(self.context.path("search"), trajectory_table(rows, chosen, layout.kinds, table.cost))
        row = rows[chosen]
        outcome = {"score": row["score"], "standard_error": row["standard_error"]}
        return Found(tuple(row["architecture"]), outcome, self.validation)

    # The network

    def _learner(self) -> tuple[Learner, bool]:
        """Return the learner that begins with the adapted weights, and whether these stay as they are."""
        path = self.context.path("adapted")
        info, params = self.tail.split.info, self.params
        weights, meta = read_supernet(path, self.view.space, "adapt")
        if len(meta["classes"]) != len(info.classes) or meta["shape"] != list(info.shape):
            raise UserError(f"{path}: made for other classes or images than the target's, run adapt")
        head = meta.get("head", LINEAR)
        if LOSSES[params.loss].cosine and params.objective == "labels" and head["name"] != "cosine":
            raise UserError(
                f"search.darts.loss: found {params.loss} with a {head['name']} classifier in {path}, expected a "
                "cosine one (adapt.classifier.name): its margins are on cosines"
            )
        self.scale = float(head.get("scale", 1.0))
        torch.manual_seed(derive(self.view.seed, "search", "weights"))
        supernet = self.space.build_supernet(len(info.classes), info.shape[2])
        supernet.head = make_head(head, self.space.num_features, len(info.classes))
        supernet.load_state_dict(weights)
        frozen = meta["recipe"]["strategy"] in FROZEN
        if isinstance(supernet, CellSupernet):
            network: SearchNetwork | RelaxedCells = RelaxedCells(supernet, learned=not frozen)
        else:
            assert isinstance(supernet, SearchNetwork)
            network = supernet
            if params.collapse.skip != "none":
                self._add_skips(network)
        learner = self._wrapped(network, fresh=meta["recipe"]["strategy"] == "scratch")
        if frozen:
            learner.requires_grad_(False)
            # The parameters are refused for this; the file may be of others.
            if idle := idle_option(params, meta["recipe"]["strategy"]):
                raise UserError(idle)
        return learner, frozen

    def _add_skips(self, network: SearchNetwork) -> None:
        for cell in network.search_cells():
            cell.add_skips()

    def _wrapped(self, network: SearchNetwork | RelaxedCells, *, fresh: bool) -> Learner:
        params = self.params
        if params.objective == "barlow-twins":
            barlow = params.barlow
            return Twins(
                network, self.space.num_features, barlow.hidden, barlow.outputs, barlow.off_diagonal, barlow.labels
            )
        if params.branches == "bilateral":
            assert isinstance(network, SearchNetwork)  # the parameters refuse another space
            return Bilateral(network, fresh=fresh)
        return Classifier(network)

    # The rows

    def _feeds(self, learner: Learner, frozen: bool) -> tuple[Sequence[Feed], Sequence[Feed]]:
        """Return the batches of both levels; where weights are frozen the architecture has all rows."""
        params, labels = self.params, self.tail.labels
        seed = derive(self.view.seed, "search", "halves")
        if frozen:
            halves = (np.arange(0), np.arange(len(labels)))
        elif params.blind:
            halves = blind_halves(len(labels), params.share, seed)
        else:
            halves = stratified_halves(labels, params.share, seed)
        own = {"same": None, "instance": SamplerParams(), "class-balanced": SamplerParams(name="class-balanced")}
        other = own[params.architecture.sampler]
        pair = [params.sampler, REVERSED] if learner.draws == 2 else [params.sampler]
        levels = (pair, pair if other is None else [other])
        inner, outer = (
            [self._feed(rows, sampler, f"{level}-{place}") for place, sampler in enumerate(samplers) if len(rows)]
            for level, (rows, samplers) in enumerate(zip(halves, levels, strict=True))
        )
        return inner, outer

    def _feed(self, rows: np.ndarray, sampler: SamplerParams, name: str) -> Feed:
        seed = derive(self.view.seed, "search", "rows", name)
        own = self.tail.labels[rows]
        if self.params.blind:
            return Feed(rows, InstanceSampler(own, seed), self.params.batch_size)
        return Feed(rows, make_sampler(sampler, own, seed, self.params.epochs), self.params.batch_size)

    def _objective(self) -> Objective:
        params = self.params
        section = ClassifierTraining(
            loss=params.loss,
            losses=params.losses,
            weighting=params.weighting,
            classifier=ClassifierParams(scale=self.scale),
        )
        return make_objective(section, RecipeParams(epochs=params.epochs), self.tail.counts, self.runtime.device)

    # The search

    def _search(self, learner: Learner, parameters: ArchitectureParameters, frozen: bool) -> BilevelSearch:
        return BilevelSearch(
            params=self.params,
            frozen=frozen,
            learner=learner,
            parameters=parameters,
            store=make_store(self.tail, self.runtime, self.context),
            augment=make_augment(self.tail.split, self.params.augment),
            feeds=self._feeds(learner, frozen),
            objective=self._objective(),
            seed=self.view.seed,
            describe=lambda relaxed, epoch: {
                **self._derived(relaxed),
                **self._score(learner, relaxed),
            },
        )

    def _derived(self, relaxed: Relaxed) -> dict[str, Any]:
        """Return the architecture that the weights mean, and its skip connections."""
        weights = {kind: values.double().cpu().numpy() for kind, values in relaxed.operations.items()}
        shares = {kind: values.double().cpu().numpy() for kind, values in relaxed.edges.items()}
        network = self.view.space.name
        if network == "nasbench201":
            chosen = rules.connected_edges(weights["cell"])
            return {"architecture": list(chosen), "skips_cell": sum(choice == 1 for choice in chosen)}
        operations = tuple(self.view.space.darts.operations)
        if self.params.relaxation == "sigmoid":
            cells = [rules.threshold_cell(weights[kind], operations, self.params.threshold) for kind in CELLS]
        else:
            cells = [rules.strongest_cell(weights[kind], operations, shares.get(kind)) for kind in CELLS]
        architecture = encode(cells, operations)
        skips = rules.skip_share(dict(zip(CELLS, decode(architecture, operations), strict=True)), SKIP)
        return {"architecture": list(architecture), **{f"skips_{kind}": count for kind, count in skips.items()}}

    def _score(self, learner: Learner, relaxed: Relaxed) -> dict[str, Any]:
        """Return the search network's accuracies on the validation rows, with statistics measured anew on a copy."""
        names = ("score", "standard_error", "balanced_accuracy", "accuracy", "worst_class")
        if self.validation is None or not learner.scored:
            return dict.fromkeys(names)
        tally = self._scorer(learner)(relaxed)
        scores = {
            "balanced_accuracy": tally.balanced_accuracy,
            "accuracy": tally.accuracy,
            "worst_class": float(np.nanmin(tally.recall)),
            "standard_error": standard_error(tally.recall, tally.support, self.view.search.objective),
        }
        return {**scores, "score": scores[self.view.search.objective]}

    def _scorer(self, learner: Learner) -> Callable[[Relaxed], Any]:
        judged = copy.deepcopy(learner)
        for layer in batchnorms(judged):
            layer.track_running_stats = True
        if self._batches is None:
            assert self.validation is not None
            calibration = self.view.search.calibration
            self._batches = (
                Batches(make_store(self.calibration, self.runtime, self.context), calibration.batch_size),
                Batches(make_store(self.validation, self.runtime, self.context), self.view.search.batch_size),
            )
        classes = len(self.tail.split.info.classes)
        augment = make_augment(self.tail.split, None)
        return cast(
            Callable[[Relaxed], Any], Scorer(self.runtime, cast(nn.Module, judged), *self._batches, augment, classes)
        )
