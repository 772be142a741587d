"""Scoring the candidates of a search: on validation rows, at initialisation, or by their cost alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np

from imbnas.params.search import COST_METHODS, PROXY_METHODS, SearchParams, SearchView
from imbnas.search.archive import Score
from imbnas.search.kept_scores import Coding, KeptScores, number_coding
from imbnas.search.marking import Marking
from imbnas.search.proxies import PROXIES
from imbnas.search.trie import TrieScorer
from imbnas.seeds import derive
from imbnas.spaces.cost import CostTable
from imbnas.spaces.networks import Architecture
from imbnas.steps.path_scorer import path_scorer
from imbnas.steps.recalibration import calibration_rows
from imbnas.steps.rows import Rows, read_validation
from imbnas.steps.search_shifting import Answers, ShiftingScores
from imbnas.steps.search_table import GivenScores
from imbnas.steps.workbench import TrainingStep
from imbnas.training.scoring import Batches

T = TypeVar("T")
Score_ = Callable[[Sequence[Architecture]], Iterable[tuple[Architecture, Score]]]
PROXY_ROWS = 64
"""Training rows from which `jacobian` takes its images, as its authors do."""


@dataclass(frozen=True)
class Scoring:
    """A way to score candidates: the name of the score, and the validation rows if there are any."""

    score: Score_
    objective: str
    marking: Marking | None = None
    validation: Rows | None = None
    given: GivenScores | None = None
    shifting: ShiftingScores | None = None
    """The supernet that moves between generations, where it does."""


def make_scoring(
    step: TrainingStep,
    view: SearchView,
    table: CostTable,
    held_out: Rows,
    pause: Callable[[], None],
    given: GivenScores | None = None,
) -> Scoring:
    """Return the scoring that the method asks for, or the table that is `given` in its place.

    `pause` is called after each candidate and may raise.
    """
    method = view.search.method
    if given is not None:
        return Scoring(given.score, given.objective, given=given)
    if method in COST_METHODS:
        return Scoring(lambda found: ((a, Score(float(getattr(table.cost(a), method)))) for a in found), method)
    if method in PROXY_METHODS:
        return _at_initialisation(step, view, pause)
    return _on_rows(step, view, read_validation(step.context, held_out, f"search.method {method}"), pause)


def _on_rows(step: TrainingStep, view: SearchView, validation: Rows, pause: Callable[[], None]) -> Scoring:
    """Score paths of the adapted supernet; it is read when there is a path whose answers are not known yet."""
    marking = Marking(validation.labels, step.classes, view.search.objective)
    if view.search.shifting.updates:
        return _on_moving(step, view, validation, marking, pause)

    @cache
    def scorer() -> TrieScorer:
        return path_scorer(step, view, validation)

    def answers(architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, bytes]]:
        for architecture, tally in scorer()(architectures):
            yield architecture, marking.pack(tally.right)

    known = _kept(step, view, SearchParams().method, answers, marking.coding(), pause)
    return Scoring(
        lambda found: ((a, marking.score(bits)) for a, bits in known(found)), marking.objective, marking, validation
    )


def _on_moving(
    step: TrainingStep, view: SearchView, validation: Rows, marking: Marking, pause: Callable[[], None]
) -> Scoring:
    """Score paths of a supernet that moves after each generation; before the first, answers are those of any search."""
    method, coding = SearchParams().method, marking.coding()

    def keep(answers: Answers, generations: str) -> KeptScores[bytes]:
        return _kept(step, view, method, answers, coding, pause, generations)

    shifting = ShiftingScores(step, view, validation, marking, keep)
    return Scoring(shifting, marking.objective, marking, validation, shifting=shifting)


def _at_initialisation(step: TrainingStep, view: SearchView, pause: Callable[[], None]) -> Scoring:
    """Score subnets with first weights that depend on the seed and the architecture alone, without half precision."""
    method = view.search.method
    proxy = PROXIES[method]

    def scores(architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, float]]:
        rows = calibration_rows(step, view.search.calibration)
        rows = rows.at(np.arange(min(PROXY_ROWS, len(rows))))
        images, _ = next(iter(Batches(step.store(rows), PROXY_ROWS)))
        prepared = step.runtime.lay_out(step.augment(None)(images, None))
        for architecture in architectures:
            step.runtime.seed(derive(step.seed, "search", method, *architecture))
            network = step.space.build_subnet(architecture, step.classes, step.shape[2])
            yield architecture, proxy(step.runtime.place(network), prepared)

    known = _kept(step, view, method, scores, number_coding(), pause)
    return Scoring(lambda found: ((a, Score(value)) for a, value in known(found)), method)


def _kept(
    step: TrainingStep,
    view: SearchView,
    method: str,
    score: Callable[[Sequence[Architecture]], Iterable[tuple[Architecture, T]]],
    coding: Coding[T],
    pause: Callable[[], None],
    generations: str = "",
) -> KeptScores[T]:
    """Keep what is found, by all that it depends on: of the search's parameters, how a path is calibrated and run.

    Where the supernet has moved, the digest of the generations after which it did is a part of that.
    """
    context = step.context
    names = ("calibration", "batch_size", "fold_batchnorm")
    acting = {**{name: getattr(view.search, name) for name in names}, "method": method}
    if generations:
        acting |= {"shifting": view.search.shifting, "generations": view.search.generations}
    depends = view.model_copy(update={"search": SearchParams().model_copy(update=acting)})

    def reused(seconds: float, own: bool) -> None:
        # What an earlier attempt of this run has spent is in its cost already.
        if not own or context.cost()["attempts"] == 1:
            context.reused_seconds += seconds

    return KeptScores(
        # What the weights are for, which `retrain` says, is nothing to a score.
        context.kept_path(depends.model_dump_json(by_alias=True, exclude={"retrain"}) + generations),
        context.state_path.name,
        score,
        coding,
        pause=pause,
        tell=context.log,
        reused=reused,
    )
