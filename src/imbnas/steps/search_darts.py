"""The method `darts` of the step `search`: gradient descent on a continuous architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imbnas.data.stored import write_table
from imbnas.differentiable.bilevel_search import SearchTrainer
from imbnas.differentiable.epoch_table import trajectory_table
from imbnas.differentiable.relaxation import ArchitectureParameters
from imbnas.differentiable.search_definition import BilevelSearch
from imbnas.params.differentiable import DartsParams
from imbnas.params.longtail import ClassifierParams, ClassifierTraining
from imbnas.params.recipe import RecipeParams
from imbnas.params.search import SearchView
from imbnas.seeds import derive
from imbnas.spaces.networks import Architecture
from imbnas.steps.objective import make_objective
from imbnas.steps.rows import Rows, validation_rows
from imbnas.steps.search_cost import make_penalty
from imbnas.steps.search_feeds import joined_feeds, make_feeds
from imbnas.steps.search_judge import Judge
from imbnas.steps.search_learner import Loaded, load_learner
from imbnas.steps.search_mixture import Mixture, make_mixture
from imbnas.steps.workbench import TrainingStep
from imbnas.training.definition import Objective


@dataclass(frozen=True)
class Found:
    """The result of the search: the architecture, the search network's score, the rows that judged it (none: None).

    `weights` are those of a supernet that the search has trained, None where it left them as they were, or where
    the networks that it derives are not paths of it. `gap` is what the mixture loses as its architecture. `mixture` is
    what a single-stage search hands on in their place.
    """

    architecture: Architecture
    outcome: dict[str, Any]
    validation: Rows | None
    weights: dict[str, Tensor] | None
    gap: dict[str, Any] | None
    mixture: Mixture | None = None


class DartsSearch:
    """One differentiable search of the chain, from parameters and files."""

    def __init__(self, step: TrainingStep, view: SearchView, held_out: Rows) -> None:
        self.step, self.view, self.context, self.tail = step, view, step.context, step.rows
        self.params: DartsParams = view.search.darts
        validation = validation_rows(step.context, held_out)
        self.validation = validation if len(validation) and not self.params.blind else None
        self.judge = Judge(step, view, self.validation)
        self.state = step.state("darts")

    def run(self) -> Found:
        """Search, write results/search.parquet, and return what was found; `finish` forgets the saved state."""
        step = self.step
        loaded = load_learner(self.view, self.context.path("adapted"), step.space, self.tail)
        step.placed(loaded.learner)
        torch.manual_seed(derive(self.view.seed, "search", "architecture"))
        layout = loaded.learner.network.layout
        parameters = ArchitectureParameters(
            layout,
            self.params.relaxation,
            edge_weights=self.params.edge_weights,
            prunes=self.params.pruning.per_epoch > 0,
        )
        search = self._search(loaded, parameters)
        if self.validation is None:
            self.context.log("no validation rows judge the search network: its trajectory has no score")
        with self.state.held():
            trainer = SearchTrainer(search, step.runtime, self.state, self.context.log)
            rows, chosen = trainer.fit()
            last = trainer.descent.judged(len(rows) - 1).detached()
            gap = self.judge.discretisation(loaded.learner, last, rows[-1])
        table = step.space.cost_table(step.shape, step.classes)
        write_table(self.context.path("search"), trajectory_table(rows, chosen, layout.kinds, table.cost))
        row = rows[chosen]
        if self.params.outcome == "cell" and row.get("opened"):
            self.context.log(
                "the derived cell had no way from input to output, as none weighed most, or nothing enough, on all: "
                "the way that loses least was opened"
            )
        outcome = {"score": row["score"], "standard_error": row["standard_error"]}
        architecture = tuple(row["architecture"])
        if self.params.outcome == "cell":
            return Found(architecture, outcome, self.validation, loaded.trained(), gap)
        mixture = make_mixture(step, self.view, loaded.learner, last)
        self.context.log(mixture.sentence)
        return Found(architecture, outcome, self.validation, None, gap, mixture)

    def _objective(self, loss: str, scale: float) -> Objective:
        params = self.params
        section = ClassifierTraining(
            loss=loss,
            losses=params.losses,
            weighting=params.weighting,
            classifier=ClassifierParams(scale=scale),
        )
        return make_objective(
            section, RecipeParams(epochs=params.epochs), self.step.rows.counts, self.step.runtime.device
        )

    def _search(self, loaded: Loaded, parameters: ArchitectureParameters) -> BilevelSearch:
        costs = self.step.space.cost_table(self.step.shape, self.step.classes)
        return BilevelSearch(
            params=self.params,
            frozen=loaded.frozen,
            learner=loaded.learner,
            parameters=parameters,
            store=self.step.store(),
            augment=self.step.augment(self.params.augment),
            joined=joined_feeds(self.params, self.tail.labels, self.view.seed)
            if self.params.outcome == "mixture"
            else (),
            feeds=make_feeds(self.params, self.tail.labels, loaded.learner.draws, loaded.frozen, self.view.seed),
            objective=self._objective(self.params.loss, loaded.scale),
            seed=self.view.seed,
            describe=lambda relaxed, epoch: {
                **self.judge.derived(parameters.ranking(relaxed)),
                **self.judge.score(loaded.learner, relaxed),
            },
            outer=self._objective(self.params.outer_loss, loaded.scale),
            cost=make_penalty(self.params.cost, self.step.space, costs),
        )
