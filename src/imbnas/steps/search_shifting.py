"""Supernet Shifting: after each generation of a search the supernet takes steps on its candidates' summed loss.

A score then depends on the weights of its time, which follow from the generations before it. Their digest names the
scores that are kept and the state of the weights, so that a search that was killed ends in the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from imbnas.params.search import SearchView
from imbnas.search.archive import Archive, Score
from imbnas.search.kept_scores import KeptScores
from imbnas.search.marking import Marking
from imbnas.search.rank_correlation import kendall
from imbnas.search.trie import TrieScorer
from imbnas.spaces.networks import Architecture
from imbnas.steps.moving_supernet import MovingSupernet, digest_of
from imbnas.steps.path_scorer import path_scorer
from imbnas.steps.rows import Rows
from imbnas.steps.workbench import TrainingStep

Answers = Callable[[Sequence[Architecture]], Iterable[tuple[Architecture, bytes]]]
Keep = Callable[[Answers, str], KeptScores[bytes]]
"""Makes what keeps the answers of paths after the generations of a digest."""


class ShiftingScores:
    """Scores candidates on validation rows by the supernet of their time."""

    def __init__(self, step: TrainingStep, view: SearchView, validation: Rows, marking: Marking, keep: Keep) -> None:
        """Prepare; the supernet is read, and moved, when there is a path whose answers are not known yet."""
        self._step, self._view, self._validation, self._marking = step, view, validation, marking
        self._keep = keep
        self._state = step.state("shifting")
        self._generations: list[list[Architecture]] = []

    def __call__(self, architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, Score]]:
        """Yield the scores after the generations so far."""
        known = self._keep(self._answers, digest_of(self._generations))
        return ((architecture, self._marking.score(bits)) for architecture, bits in known(architectures))

    def shift(self, candidates: Sequence[Architecture]) -> None:
        """Note a generation, which moves the supernet."""
        self._generations.append(sorted(candidates))

    def described(self, taken: Archive, anew: Archive) -> dict[str, Any]:
        """Return what outputs say: how often the supernet moved, and how alike first and last scores rank (tau)."""
        values = [[archive.value(each) for each in taken.entries] for archive in (taken, anew)]
        moves = len(self._generations)
        updates = moves * self._view.search.shifting.updates
        return {"generations": moves, "updates": updates, "tau": kendall(*values)}

    def weights(self) -> dict[str, Tensor]:
        """Return the supernet's state after all generations, with the running statistics of the adapted one."""
        return self._moving.weights_after(self._generations)

    def finish(self) -> None:
        """Discard the state: the outputs are written."""
        self._state.finish()

    def _answers(self, architectures: Sequence[Architecture]) -> Iterator[tuple[Architecture, bytes]]:
        scorer = self._scorer
        self._moving.move_after(self._generations)
        for architecture, tally in scorer(architectures):
            yield architecture, self._marking.pack(tally.right)

    @cached_property
    def _moving(self) -> MovingSupernet:
        return MovingSupernet(self._step, self._view, self._state)

    @cached_property
    def _scorer(self) -> TrieScorer:
        return path_scorer(self._step, self._view, self._validation, self._moving.network)
