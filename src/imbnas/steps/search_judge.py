"""The architecture that a relaxed one means, and the search network's score, for the method `darts`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import nn

from imbnas.cell_graph import is_connected
from imbnas.differentiable import derive as rules
from imbnas.differentiable.derive_stages import derived_stages
from imbnas.differentiable.learners import Learner
from imbnas.differentiable.mixed_cell import RelaxedCells
from imbnas.params.search import SearchView
from imbnas.search.marking import Marking, score_of
from imbnas.spaces.darts_genotype import CELLS, decode, encode
from imbnas.spaces.darts_ops import SKIP
from imbnas.spaces.relaxed import Relaxed
from imbnas.spaces.stage_cells import StageCellsSpace
from imbnas.steps.recalibration import calibration_rows
from imbnas.steps.rows import Rows
from imbnas.steps.workbench import TrainingStep
from imbnas.training.batchnorm import batchnorms
from imbnas.training.scoring import Batches, Scorer, Tally


class Judge:
    """Describes each epoch of a search."""

    def __init__(self, step: TrainingStep, view: SearchView, validation: Rows | None) -> None:
        self.step, self.view, self.validation = step, view, validation
        self._batches: tuple[Batches, Batches] | None = None
        self._last: Tally | None = None

    def derived(self, relaxed: Relaxed) -> dict[str, Any]:
        """Return the architecture that the weights mean, and its skip connections."""
        weights = {kind: values.double().cpu().numpy() for kind, values in relaxed.operations.items()}
        shares = {kind: values.double().cpu().numpy() for kind, values in relaxed.edges.items()}
        network = self.view.space.name
        if isinstance(self.step.space, StageCellsSpace):
            return derived_stages(self.step.space, relaxed)
        if network == "nasbench201":
            return self._derived_edges(weights["cell"])
        operations = tuple(self.view.space.darts.operations)
        if self.view.search.darts.relaxation == "sigmoid":
            cells = [
                rules.threshold_cell(weights[kind], operations, self.view.search.darts.derived_from) for kind in CELLS
            ]
        else:
            cells = [rules.strongest_cell(weights[kind], operations, shares.get(kind)) for kind in CELLS]
        architecture = encode(cells, operations)
        skips = rules.skip_share(dict(zip(CELLS, decode(architecture, operations), strict=True)), SKIP)
        return {"architecture": list(architecture), **{f"skips_{kind}": count for kind, count in skips.items()}}

    def _derived_edges(self, weights: rules.Weights) -> dict[str, Any]:
        """Return the same of NAS-Bench-201's cell, and whether a way had to be opened."""
        options = self.view.search.darts
        if options.relaxation == "sigmoid":
            best = rules.threshold_edges(weights, options.derived_from)
            chosen = rules.connected_threshold_edges(weights, options.derived_from)
        else:
            best, chosen = rules.argmax_edges(weights), rules.connected_edges(weights)
        return {
            "architecture": list(chosen),
            "skips_cell": sum(choice == 1 for choice in chosen),
            "opened": not is_connected(best),
        }

    def score(self, learner: Learner, relaxed: Relaxed) -> dict[str, Any]:
        """Return the search network's accuracies on the validation rows, with statistics measured anew on a copy."""
        names = ("score", "standard_error", "balanced_accuracy", "accuracy", "worst_class")
        if self.validation is None or not learner.scored:
            return dict.fromkeys(names)
        self._last = self._scorer(learner)(relaxed)
        found = score_of(self._last, self.view.search.objective)
        return {"score": found.value, **{name: getattr(found, name) for name in names[1:]}}

    def discretisation(self, learner: Learner, relaxed: Relaxed, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the score of the mixture after the last epoch, `row`, and that of its architecture, weights kept.

        The architecture's operations have their weights in the search network, and BatchNorm statistics measured anew;
        nothing is trained. The standard error is that of the paired difference on the same rows. None where no rows
        judge the network.
        """
        if self.validation is None or not learner.scored:
            return None
        # A search that was killed after its last epoch has not judged the mixture itself.
        continuous = self._last or self._scorer(learner)(relaxed)
        architecture = tuple(row["architecture"])
        network = learner.network
        # The cells of the other space take an architecture where they take weights.
        path: Any = network.one_hot(architecture) if isinstance(network, RelaxedCells) else architecture
        decoded = self._scorer(learner)(path)
        marking = Marking(self.validation.labels, self.step.classes, self.view.search.objective)
        answers = [marking.pack(tally.right) for tally in (continuous, decoded)]
        gap = marking.difference(answers[0], answers[1])
        return {
            "epoch": row["generation"] + 1,
            "architecture": list(architecture),
            "continuous": score_of(continuous, marking.objective).value,
            "decoded": score_of(decoded, marking.objective).value,
            "gap": gap.value,
            "standard_error": gap.standard_error,
            "entropy": row["entropy"],
        }

    def _scorer(self, learner: Learner) -> Callable[[Relaxed], Any]:
        judged = copy.deepcopy(learner)
        for layer in batchnorms(judged):
            layer.track_running_stats = True
        if self._batches is None:
            assert self.validation is not None
            calibration = self.view.search.calibration
            self._batches = (
                Batches(self.step.store(calibration_rows(self.step, calibration)), calibration.batch_size),
                Batches(self.step.store(self.validation), self.view.search.batch_size),
            )
        step = self.step
        return cast(
            Callable[[Relaxed], Any],
            Scorer(step.runtime, cast(nn.Module, judged), *self._batches, step.augment(None), step.classes),
        )
